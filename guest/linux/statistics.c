// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Statistics (VIRTIO 1.3 section 5.5.6.4): one buffer is with the device, and
 * filled anew when it comes back. Which tags there are is what this kernel's
 * header knows: ten, and six more from 6.12 on.
 */
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/swap.h>
#include <linux/virtio_config.h>
#include <linux/vmstat.h>

#include "balloon.h"

struct entries {
	struct balloon *b;
	unsigned int count;
};

static void put(struct entries *entries, u16 tag, u64 value)
{
	struct balloon *b = entries->b;
	struct virtio_balloon_stat *entry = &b->statistics[entries->count++];

	entry->tag = cpu_to_virtio16(b->vdev, tag);
	entry->val = cpu_to_virtio64(b->vdev, value);
}

static void put_pages(struct entries *entries, u16 tag, u64 pages)
{
	put(entries, tag, pages << PAGE_SHIFT);
}

static void put_memory(struct entries *entries)
{
	struct sysinfo info;

	si_meminfo(&info);
	put_pages(entries, VIRTIO_BALLOON_S_MEMFREE, info.freeram);
	put_pages(entries, VIRTIO_BALLOON_S_MEMTOT, info.totalram);
	put_pages(entries, VIRTIO_BALLOON_S_AVAIL, si_mem_available());
	put_pages(entries, VIRTIO_BALLOON_S_CACHES,
		  global_node_page_state(NR_FILE_PAGES));
}

#ifdef VIRTIO_BALLOON_S_OOM_KILL
static u64 stalls(const unsigned long *events)
{
	u64 sum = 0;
	int zone;

	for (zone = 0; zone < MAX_NR_ZONES; zone++)
		sum += events[ALLOCSTALL_NORMAL - ZONE_NORMAL + zone];
	return sum;
}

static void put_reclaim(struct entries *entries, const unsigned long *events)
{
	put(entries, VIRTIO_BALLOON_S_OOM_KILL, events[OOM_KILL]);
	put(entries, VIRTIO_BALLOON_S_ALLOC_STALL, stalls(events));
	put_pages(entries, VIRTIO_BALLOON_S_ASYNC_SCAN, events[PGSCAN_KSWAPD]);
	put_pages(entries, VIRTIO_BALLOON_S_DIRECT_SCAN, events[PGSCAN_DIRECT]);
	put_pages(entries, VIRTIO_BALLOON_S_ASYNC_RECLAIM,
		  events[PGSTEAL_KSWAPD]);
	put_pages(entries, VIRTIO_BALLOON_S_DIRECT_RECLAIM,
		  events[PGSTEAL_DIRECT]);
}
#else
static void put_reclaim(struct entries *entries, const unsigned long *events)
{
}
#endif

#ifdef CONFIG_VM_EVENT_COUNTERS
static void put_events(struct entries *entries)
{
	unsigned long events[NR_VM_EVENT_ITEMS];

	all_vm_events(events);
	put_pages(entries, VIRTIO_BALLOON_S_SWAP_IN, events[PSWPIN]);
	put_pages(entries, VIRTIO_BALLOON_S_SWAP_OUT, events[PSWPOUT]);
	put(entries, VIRTIO_BALLOON_S_MAJFLT, events[PGMAJFAULT]);
	put(entries, VIRTIO_BALLOON_S_MINFLT, events[PGFAULT]);
#ifdef CONFIG_HUGETLB_PAGE
	put(entries, VIRTIO_BALLOON_S_HTLB_PGALLOC,
	    events[HTLB_BUDDY_PGALLOC]);
	put(entries, VIRTIO_BALLOON_S_HTLB_PGFAIL,
	    events[HTLB_BUDDY_PGALLOC_FAIL]);
#endif
	put_reclaim(entries, events);
}
#else
static void put_events(struct entries *entries)
{
}
#endif

/* D19, D23: the same entries each time. */
static void send(struct balloon *b)
{
	struct virtqueue *vq = b->queue[BALLOON_STATS];
	struct entries entries = { .b = b };
	struct scatterlist sg;

	put_events(&entries);
	put_memory(&entries);
	sg_init_one(&sg, b->statistics,
		    entries.count * sizeof(b->statistics[0]));
	if (virtqueue_add_outbuf(vq, &sg, 1, b, GFP_KERNEL))
		return;
	b->statistics_sent = true;
	balloon_count(COUNT_STATISTICS, 1);
	balloon_kick(vq);
}

/* D17. The worker sends the first one, too: a queue has one user. */
void balloon_statistics_begin(struct balloon *b)
{
	b->statistics_sent = false;
	if (b->queue[BALLOON_STATS])
		balloon_queue_worker(b, &b->statistics_work);
}

/* D16, D18. */
void balloon_statistics(struct work_struct *work)
{
	struct balloon *b = container_of(work, struct balloon, statistics_work);
	unsigned int length;

	if (!b->statistics_sent ||
	    virtqueue_get_buf(b->queue[BALLOON_STATS], &length))
		send(b);
}
