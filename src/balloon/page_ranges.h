/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Page ranges: buffers of the inflate and deflate queue are the pages themselves
 * (docs/spec/page-ranges.md). */
#ifndef BALLOON_PAGE_RANGES_H
#define BALLOON_PAGE_RANGES_H

#define BALLOON_F_PAGE_RANGES 58

#endif
