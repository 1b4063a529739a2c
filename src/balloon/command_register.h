/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What both halves of the command-register protocol share: its feature bit and
 * its registers (docs/spec/command-register.md section 2).
 */
#ifndef BALLOON_COMMAND_REGISTER_H
#define BALLOON_COMMAND_REGISTER_H

#define BALLOON_F_COMMAND_REGISTER 56

/* Offsets in the configuration space. */
#define BALLOON_CMD_REG 64
#define BALLOON_CMD_ID_REG 68

/* Bits of cmd_reg: set by the device, cleared by the driver's write of them. */
#define BALLOON_CMD_BALLOONING (1u << 0)
#define BALLOON_CMD_REPORT_START (1u << 1)
#define BALLOON_CMD_REPORT_STOP (1u << 2)
#define BALLOON_CMD_REPORT_DONE (1u << 3)

#define BALLOON_CMD_REPORT                                           \
	(BALLOON_CMD_REPORT_START | BALLOON_CMD_REPORT_STOP |        \
	 BALLOON_CMD_REPORT_DONE)
#define BALLOON_CMD_KNOWN (BALLOON_CMD_BALLOONING | BALLOON_CMD_REPORT)

#endif
