/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * To be included before the core's files. The kernel has two of their names
 * itself, for what vmstat counts; in what comes from the core, and there only,
 * they are others.
 */
#ifndef AEROSTAT_CORE_H
#define AEROSTAT_CORE_H

#include <linux/virtio_config.h>
#include <linux/vmstat.h>

#define BALLOON_INFLATE QUEUE_INFLATE
#define BALLOON_DEFLATE QUEUE_DEFLATE

#endif
