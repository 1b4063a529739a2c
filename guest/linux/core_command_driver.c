// SPDX-License-Identifier: GPL-2.0-only OR MIT
/* The core's file as it is; its object is left here, and not beside it. */
#include "core.h"

#include "balloon/command_driver.c"
