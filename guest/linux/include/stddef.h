/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* For the core's files: what the kernel has of <stddef.h>. */
#include <linux/stddef.h>
