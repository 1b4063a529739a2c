// SPDX-License-Identifier: MIT
/* States of the machine as JSON. */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include <string.h>

#include "base/cleanup.h"
#include "memory/backing.h"
#include "qmp/answers.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static void put(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, json_integer((json_int_t)value));
}

json_t *qmp_string(const char *text)
{
	json_t *string = json_string(text);
	cleanup_free char *copy = NULL;
	char *c;

	if (string)
		return string;
	copy = strdup(text);
	if (!copy)
		return NULL;
	for (c = copy; *c; c++)
		if (*c & 0x80)
			*c = '?';
	return json_string(copy);
}

/* ---------------------------------------------------------- migration --- */

static json_t *rounds(const struct migration_status *status)
{
	json_t *array = json_array(), *round;
	unsigned int i;

	for (i = 0; i < status->rounds && i < MIGRATION_MAX_ROUNDS; i++) {
		round = json_object();
		put(round, "pages_sent", status->round[i].pages_sent);
		put(round, "dirty", status->round[i].dirty);
		put(round, "ms", status->round[i].ms);
		json_array_append_new(array, round);
	}
	return array;
}

json_t *qmp_answer_migration(struct outgoing *outgoing)
{
	json_t *answer = json_object();
	struct migration_status s;

	outgoing_status(outgoing, &s);
	json_object_set_new(answer, "status",
			    json_string(migration_state_name(s.state)));
	if (s.error[0])
		json_object_set_new(answer, "error", qmp_string(s.error));
	put(answer, "total_ms", s.total_ms);
	put(answer, "downtime_ms", s.downtime_ms);
	put(answer, "setup_ms", s.setup_ms);
	put(answer, "report_ms", s.report_ms);
	put(answer, "ram_bytes", s.ram_bytes);
	put(answer, "bytes_sent", s.bytes_sent);
	put(answer, "bytes_received", s.bytes_received);
	put(answer, "bytes_per_second", s.bytes_per_second);
	put(answer, "pages_sent", s.pages_sent);
	put(answer, "pages_hinted", s.pages_hinted);
	put(answer, "pages_absent", s.pages_absent);
	put(answer, "pages_zero", s.pages_zero);
	put(answer, "pages_left", s.pages_left);
	put(answer, "hints_received", s.hints_received);
	put(answer, "hints_late", s.hints_late);
	put(answer, "hints_rejected", s.hints_rejected);
	put(answer, "verified_pages", s.verified_pages);
	put(answer, "destination_rss_bytes", s.destination_rss_bytes);
	json_object_set_new(answer, "rounds", rounds(&s));
	return answer;
}

/* ------------------------------------------------------------- status --- */

static const struct feature {
	unsigned int bit;
	const char *name; /* as 'aerostat run --balloon' spells it */
} features[] = {
	{ VIRTIO_BALLOON_F_MUST_TELL_HOST, "must-tell-host" },
	{ VIRTIO_BALLOON_F_STATS_VQ, "stats" },
	{ VIRTIO_BALLOON_F_DEFLATE_ON_OOM, "deflate-on-oom" },
	{ VIRTIO_BALLOON_F_FREE_PAGE_HINT, "hinting" },
	{ VIRTIO_BALLOON_F_PAGE_POISON, "poison" },
	{ VIRTIO_BALLOON_F_REPORTING, "reporting" },
	{ VIRTIO_RING_F_INDIRECT_DESC, "indirect" },
	{ VIRTIO_RING_F_EVENT_IDX, "event-idx" },
	{ VIRTIO_F_VERSION_1, "version-1" },
	{ VIRTIO_F_ACCESS_PLATFORM, "access-platform" },
	{ VIRTIO_F_RING_RESET, "ring-reset" },
};

static json_t *feature_name(unsigned int bit)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(features); i++)
		if (features[i].bit == bit)
			return json_string(features[i].name);
	return json_sprintf("bit-%u", bit);
}

static json_t *feature_names(uint64_t bits)
{
	json_t *array = json_array();
	unsigned int bit;

	for (bit = 0; bit < 64; bit++)
		if (bits >> bit & 1)
			json_array_append_new(array, feature_name(bit));
	return array;
}

static json_t *balloon(struct machine *machine)
{
	struct balloon_view view;
	json_t *answer;

	if (!machine->config.balloon)
		return json_null();
	balloon_device_view(&machine->balloon, &view);
	answer = json_object();
	put(answer, "target", view.target);
	put(answer, "actual", view.actual);
	json_object_set_new(answer, "driver", json_boolean(view.driver));
	json_object_set_new(answer, "offered", feature_names(view.offered));
	json_object_set_new(answer, "negotiated",
			    feature_names(view.negotiated));
	json_object_set_new(answer, "report_state",
			    json_string(report_state_name(view.report_state)));
	put(answer, "command_id", view.command_id);
	put(answer, "discarded_pages", view.discarded);
	put(answer, "discard_errors", view.discard_errors);
	return answer;
}

json_t *qmp_answer_status(struct machine *machine)
{
	json_t *answer = json_object();

	if (!machine) {
		json_object_set_new(answer, "state",
				    json_string(machine_state_name(
					    MACHINE_INCOMING)));
		return answer;
	}
	json_object_set_new(answer, "name", qmp_string(machine->config.name));
	json_object_set_new(answer, "state",
			    json_string(machine_state_name(
				    machine_state(machine))));
	put(answer, "ram_bytes", machine->memory.size);
	put(answer, "rss_bytes", backing_resident(&machine->memory));
	put(answer, "cpus", machine->config.cpus);
	json_object_set_new(answer, "balloon", balloon(machine));
	return answer;
}
