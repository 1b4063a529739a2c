/* SPDX-License-Identifier: MIT */
/* States of the machine as JSON. Private to the server. */
#ifndef QMP_ANSWERS_H
#define QMP_ANSWERS_H

#include <jansson.h>

#include "machine/machine.h"
#include "machine/move.h"

/* Each returns an object of the caller's, or NULL when there is no memory. */

/* A text that need not be UTF-8: names and messages may carry paths and may
 * have been cut. What JSON cannot hold becomes '?'. */
json_t *qmp_string(const char *text);

/* query-migrate, and the event MIGRATION. */
json_t *qmp_answer_migration(struct outgoing *outgoing);

/* x-query-status. @machine: NULL while a guest is still coming in */
json_t *qmp_answer_status(struct machine *machine);

/* x-query-statistics, of a machine with a balloon. @request: ask the guest for
 * new ones, which come later */
json_t *qmp_answer_statistics(struct machine *machine, bool request);

#endif
