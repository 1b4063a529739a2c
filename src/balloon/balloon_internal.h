/* SPDX-License-Identifier: MIT */
/* What the files of the balloon share with each other only. */
#ifndef BALLOON_BALLOON_INTERNAL_H
#define BALLOON_BALLOON_INTERNAL_H

#include "balloon/balloon.h"

/* Move the report on and tell the host; nothing when it is there already. */
void balloon_report_set_state(struct balloon *balloon, enum report_state state);

/* The device changed a register: tell the guest, if there is one running. */
void balloon_config_changed(struct balloon *balloon);

#endif
