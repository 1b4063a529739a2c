/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What both halves of the v17 protocol share: its feature bit and its registers
 * (docs/spec/v17.md section 2).
 */
#ifndef BALLOON_V17_REGISTERS_H
#define BALLOON_V17_REGISTERS_H

#define BALLOON_F_V17 57

/* Offsets in the configuration space. */
#define BALLOON_V17_HOST2GUEST_CMD 72
#define BALLOON_V17_FREE_PAGE_CMD_ID 76
#define BALLOON_V17_GUEST2HOST_CMD 80

/* Bits of both commands. */
#define BALLOON_V17_BALLOONING (1u << 0)
#define BALLOON_V17_REPORT_START (1u << 1)
#define BALLOON_V17_REPORT_STOP (1u << 2)

#define BALLOON_V17_KNOWN                                         \
	(BALLOON_V17_BALLOONING | BALLOON_V17_REPORT_START |      \
	 BALLOON_V17_REPORT_STOP)

#endif
