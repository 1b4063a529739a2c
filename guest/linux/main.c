// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* The balloon's driver: how it comes, sleeps and goes. See balloon.h. */
#include <linux/build_bug.h>
#include <linux/module.h>
#include <linux/pm.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>

#include "balloon.h"

static bool command_register = true;
module_param(command_register, bool, 0444);
MODULE_PARM_DESC(command_register,
		 "speak the command-register protocol where it is offered");

/* ------------------------------------------------------ begin and end --- */

/* From here on no work is queued, and after that none runs. */
static void stop_works(struct balloon *b)
{
	spin_lock_irq(&b->work_lock);
	WRITE_ONCE(b->running, false);
	spin_unlock_irq(&b->work_lock);
	cancel_work_sync(&b->config_work);
	cancel_work_sync(&b->report_work);
	cancel_work_sync(&b->statistics_work);
	cancel_delayed_work_sync(&b->adjust_work);
}

static void start_works(struct balloon *b)
{
	spin_lock_irq(&b->work_lock);
	WRITE_ONCE(b->running, true);
	spin_unlock_irq(&b->work_lock);
}

/* Pages come back first, then the device forgets (G-8). It answers until its
 * reset; what it does not answer is freed after that. */
static void end(struct balloon *b)
{
	if (!b->queue[QUEUE_INFLATE])
		return;
	balloon_wake(b);
	balloon_reporting_end(b);
	balloon_oom_end(b);
	stop_works(b);
	balloon_report_leave(b);
	balloon_deflate_all(b);
	virtio_reset_device(b->vdev);
	balloon_drop_queues(b);
	balloon_report_exit(b);
	balloon_free_rest(b);
}

static int begin(struct balloon *b)
{
	int error = balloon_find_queues(b);

	if (error)
		return error;
	b->commands = virtio_has_feature(b->vdev, BALLOON_F_COMMAND_REGISTER);
	error = balloon_report_init(b);
	if (error)
		goto undo;
	balloon_tell_poison(b);
	virtio_device_ready(b->vdev);
	start_works(b);
	balloon_statistics_begin(b);
	error = balloon_oom_begin(b);
	if (error)
		goto undo;
	error = balloon_reporting_begin(b);
	if (error)
		goto undo;
	/* Once by itself (G-8): a request may have come before. */
	balloon_queue_handler(b);
	return 0;
undo:
	end(b);
	return error;
}

/* ------------------------------------------------------------- device --- */

static int make_workqueues(struct balloon *b)
{
	b->handler = alloc_ordered_workqueue("aerostat-handler", WQ_FREEZABLE);
	b->workers = alloc_workqueue("aerostat-balloon",
				     WQ_FREEZABLE | WQ_UNBOUND, 0);
	return b->handler && b->workers ? 0 : -ENOMEM;
}

static void destroy(struct balloon *b)
{
	if (b->handler)
		destroy_workqueue(b->handler);
	if (b->workers)
		destroy_workqueue(b->workers);
	kfree(b);
}

static struct balloon *create(struct virtio_device *vdev)
{
	struct balloon *b = kzalloc(sizeof(*b), GFP_KERNEL);

	if (!b)
		return NULL;
	b->vdev = vdev;
	init_waitqueue_head(&b->acknowledged);
	spin_lock_init(&b->work_lock);
	mutex_init(&b->decision_lock);
	mutex_init(&b->adjust_lock);
	INIT_LIST_HEAD(&b->pages);
	balloon_transfer_init(&b->transfer[QUEUE_INFLATE]);
	balloon_transfer_init(&b->transfer[QUEUE_DEFLATE]);
	balloon_blocks_init(&b->blocks);
	INIT_WORK(&b->config_work, balloon_handle_config);
	INIT_WORK(&b->report_work, balloon_report);
	INIT_WORK(&b->statistics_work, balloon_statistics);
	INIT_DELAYED_WORK(&b->adjust_work, balloon_adjust);
	if (make_workqueues(b)) {
		destroy(b);
		return NULL;
	}
	return b;
}

static int probe(struct virtio_device *vdev)
{
	struct balloon *b;
	int error;

	/* Frames are of 4 KiB, as are this kernel's pages. */
	BUILD_BUG_ON(PAGE_SHIFT != VIRTIO_BALLOON_PFN_SHIFT);
	if (!vdev->config->get)
		return -EINVAL;
	b = create(vdev);
	if (!b)
		return -ENOMEM;
	vdev->priv = b;
	error = begin(b);
	if (error) {
		destroy(b);
		return error;
	}
	dev_info(&vdev->dev, "balloon: the %s protocol is spoken\n",
		 b->commands ? "command-register" : "standard");
	return 0;
}

static void remove(struct virtio_device *vdev)
{
	struct balloon *b = vdev->priv;

	end(b);
	destroy(b);
}

/* An interrupt. */
static void config_changed(struct virtio_device *vdev)
{
	balloon_count(COUNT_INTERRUPTS, 1);
	balloon_queue_handler(vdev->priv);
}

/* While the machine sleeps its memory is its own: the balloon is emptied, and
 * filled again when the handler has read num_pages. */
static int __maybe_unused freeze(struct virtio_device *vdev)
{
	end(vdev->priv);
	return 0;
}

static int __maybe_unused restore(struct virtio_device *vdev)
{
	return begin(vdev->priv);
}

/* ----------------------------------------------------------- features --- */

static const unsigned int features[] = {
	VIRTIO_BALLOON_F_MUST_TELL_HOST, VIRTIO_BALLOON_F_STATS_VQ,
	VIRTIO_BALLOON_F_DEFLATE_ON_OOM, VIRTIO_BALLOON_F_FREE_PAGE_HINT,
	VIRTIO_BALLOON_F_PAGE_POISON,	 VIRTIO_BALLOON_F_REPORTING,
	BALLOON_F_COMMAND_REGISTER,	 BALLOON_F_PAGE_RANGES,
};

/* Who accepts the command register accepts these as well (section 2). */
static bool may_have_commands(struct virtio_device *vdev)
{
	return command_register &&
	       virtio_has_feature(vdev, VIRTIO_F_VERSION_1) &&
	       virtio_has_feature(vdev, VIRTIO_BALLOON_F_FREE_PAGE_HINT);
}

static int validate(struct virtio_device *vdev)
{
	if (!may_have_commands(vdev))
		__virtio_clear_bit(vdev, BALLOON_F_COMMAND_REGISTER);
	balloon_check_ranges(vdev);
	balloon_check_poison(vdev);
	/* The host is told of memory by its physical address. */
	__virtio_clear_bit(vdev, VIRTIO_F_ACCESS_PLATFORM);
	return 0;
}

/* ------------------------------------------------------------- module --- */

static const struct virtio_device_id ids[] = {
	{ VIRTIO_ID_BALLOON, VIRTIO_DEV_ANY_ID },
	{},
};
MODULE_DEVICE_TABLE(virtio, ids);

static struct virtio_driver driver = {
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.id_table = ids,
	.feature_table = features,
	.feature_table_size = ARRAY_SIZE(features),
	.validate = validate,
	.probe = probe,
	.remove = remove,
	.config_changed = config_changed,
#ifdef CONFIG_PM_SLEEP
	.freeze = freeze,
	.restore = restore,
#endif
};

static int __init init(void)
{
	int error;

	balloon_counters_init();
	error = register_virtio_driver(&driver);
	if (error)
		balloon_counters_exit();
	return error;
}
module_init(init);

static void __exit leave(void)
{
	unregister_virtio_driver(&driver);
	balloon_counters_exit();
}
module_exit(leave);

MODULE_DESCRIPTION("Virtio balloon that speaks aerostat's command register");
MODULE_VERSION("0.1.0");
MODULE_LICENSE("Dual MIT/GPL");
