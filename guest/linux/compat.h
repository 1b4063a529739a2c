/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What differs between kernel versions, 6.1 and later. */
#ifndef AEROSTAT_COMPAT_H
#define AEROSTAT_COMPAT_H

#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/version.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>

/* The largest block of the page allocator. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#define LARGEST_ORDER MAX_PAGE_ORDER
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define LARGEST_ORDER MAX_ORDER
#else
#define LARGEST_ORDER (MAX_ORDER - 1)
#endif

/* Queues, by index; neither names nor callbacks are missing. */
static inline int compat_find_queues(struct virtio_device *vdev,
				     unsigned int count, struct virtqueue **vqs,
				     vq_callback_t **callbacks,
				     const char *const *names)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
	struct virtqueue_info info[8] = {};
	unsigned int i;

	if (count > ARRAY_SIZE(info))
		return -EINVAL;
	for (i = 0; i < count; i++) {
		info[i].name = names[i];
		info[i].callback = callbacks[i];
	}
	return virtio_find_vqs(vdev, count, vqs, info, NULL);
#else
	return virtio_find_vqs(vdev, count, vqs, callbacks, names, NULL);
#endif
}

typedef unsigned long (*shrinker_function)(struct shrinker *shrinker,
					   struct shrink_control *control);

/* Pages that a shrinker gave back count as progress of who reclaims: without
 * that it would go on until nothing is left to give. */
static inline void compat_account_reclaimed(unsigned long pages)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	mm_account_reclaimed_pages(pages);
#else
	if (current->reclaim_state)
		current->reclaim_state->reclaimed_slab += pages;
#endif
}

/* A shrinker whose objects are pages, and come in blocks. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)

static inline struct shrinker *compat_shrinker(shrinker_function count,
					       shrinker_function scan,
					       void *owner)
{
	struct shrinker *shrinker = shrinker_alloc(0, "aerostat-balloon");

	if (!shrinker)
		return NULL;
	shrinker->count_objects = count;
	shrinker->scan_objects = scan;
	shrinker->batch = 1l << LARGEST_ORDER;
	shrinker->private_data = owner;
	shrinker_register(shrinker);
	return shrinker;
}

static inline void *compat_shrinker_owner(struct shrinker *shrinker)
{
	return shrinker->private_data;
}

static inline void compat_shrinker_end(struct shrinker *shrinker)
{
	shrinker_free(shrinker);
}

#else

struct owned_shrinker {
	struct shrinker shrinker;
	void *owner;
};

static inline struct shrinker *compat_shrinker(shrinker_function count,
					       shrinker_function scan,
					       void *owner)
{
	struct owned_shrinker *owned = kzalloc(sizeof(*owned), GFP_KERNEL);

	if (!owned)
		return NULL;
	owned->owner = owner;
	owned->shrinker.count_objects = count;
	owned->shrinker.scan_objects = scan;
	owned->shrinker.seeks = DEFAULT_SEEKS;
	owned->shrinker.batch = 1l << LARGEST_ORDER;
	if (register_shrinker(&owned->shrinker, "aerostat-balloon")) {
		kfree(owned);
		return NULL;
	}
	return &owned->shrinker;
}

static inline void *compat_shrinker_owner(struct shrinker *shrinker)
{
	return container_of(shrinker, struct owned_shrinker, shrinker)->owner;
}

static inline void compat_shrinker_end(struct shrinker *shrinker)
{
	unregister_shrinker(shrinker);
	kfree(container_of(shrinker, struct owned_shrinker, shrinker));
}

#endif

#endif
