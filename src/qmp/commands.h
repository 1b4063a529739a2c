/* SPDX-License-Identifier: MIT */
/* What a client may ask for. Private to the server. */
#ifndef QMP_COMMANDS_H
#define QMP_COMMANDS_H

#include <jansson.h>

#include "qmp/server.h"

/**
 * qmp_execute() - Carry out one request
 * @request:	peer: what was parsed, an object
 * @negotiated:	of this client; set by qmp_capabilities
 *
 * Never waits for the guest or a peer.
 *
 * Return: the reply, owned by the caller; NULL when there is no memory
 */
json_t *qmp_execute(struct qmp_server *server,
		    const struct qmp_context *context, bool *negotiated,
		    json_t *request);

/* {"error": {"class": CLASS, "desc": TEXT}} */
json_t *qmp_error_reply(const char *class, const char *text);

/* What query-version returns; stands in the greeting, too. */
json_t *qmp_version(void);

#endif
