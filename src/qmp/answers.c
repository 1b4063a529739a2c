// SPDX-License-Identifier: MIT
/* States of the machine as JSON. */
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#include <string.h>

#include "base/cleanup.h"
#include "memory/backing.h"
#include "qmp/answers.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Jansson's integers end at 2^63 - 1; only a guest's nonsense is beyond. */
static void put(json_t *object, const char *key, uint64_t value)
{
	if (value > INT64_MAX)
		value = INT64_MAX;
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
	{ BALLOON_F_COMMAND_REGISTER, "command-register" },
	{ BALLOON_F_V17, "v17" },
	{ BALLOON_F_PAGE_RANGES, "page-ranges" },
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

static void put_text(json_t *object, const char *key, const char *text)
{
	json_object_set_new(object, key, json_string(text));
}

static bool took(const struct balloon_view *view, unsigned int feature)
{
	return view->negotiated >> feature & 1;
}

/* Both sides of the negotiation. */
static void put_driver(json_t *answer, const struct balloon_options *options,
		       const struct balloon_view *view)
{
	json_object_set_new(answer, "driver", json_boolean(view->driver));
	json_object_set_new(answer, "broken", json_boolean(view->broken));
	json_object_set_new(answer, "offered", feature_names(view->offered));
	json_object_set_new(answer, "negotiated",
			    feature_names(view->negotiated));
	put_text(answer, "numbering",
		 options->numbering == BALLOON_NUMBERING_SPEC ? "spec" :
								"packed");
	put_text(answer, "protocol_offered", options->protocol->name);
	if (view->driver)
		put_text(answer, "protocol", view->protocol->name);
	if (took(view, VIRTIO_BALLOON_F_PAGE_POISON))
		put(answer, "poison", view->poison);
}

/* The last free page report. */
static void put_report(json_t *answer, const struct balloon_view *view)
{
	json_t *report = json_object();

	put(report, "hints", view->report.hints);
	put(report, "hinted_pages", view->report.hinted_pages);
	put(report, "rejected", view->report.rejected);
	put(report, "uncounted", view->report.uncounted);
	put(report, "malformed", view->report.malformed);
	put_text(answer, "report_state", report_state_name(view->report_state));
	put(answer, "command_id", view->command_id);
	json_object_set_new(answer, "report", report);
}

static void put_counters(json_t *answer, const struct balloon_view *view)
{
	put(answer, "discarded_pages", view->discarded);
	put(answer, "discard_errors", view->discard_errors);
	put(answer, "discard_kept", view->discard_kept);
	put(answer, "held_pages", view->held);
	put(answer, "populated_pages", view->populated);
	put(answer, "reported_pages", view->counters.reported);
	put(answer, "inhibited_pages", view->counters.inhibited);
	put(answer, "range_pages", view->counters.in_ranges);
	put(answer, "malformed_buffers", view->counters.malformed);
	put(answer, "bad_frames", view->counters.bad_frames);
}

/* What driver and device had to say to each other. */
static void put_traffic(json_t *answer, const struct balloon_view *view)
{
	put(answer, "config_reads", view->config_reads);
	put(answer, "config_writes", view->config_writes);
	put(answer, "kicks", view->kicks);
	put(answer, "config_interrupts", view->config_interrupts);
	put(answer, "queue_interrupts", view->queue_interrupts);
}

static json_t *balloon(struct machine *machine)
{
	struct balloon_view view;
	json_t *answer;

	if (!machine->config.balloon)
		return json_null();
	balloon_device_view(&machine->balloon, &view);
	answer = json_object();
	put(answer, "target", view.size.target);
	put(answer, "actual", view.size.actual);
	put_driver(answer, &machine->config.balloon_options, &view);
	put_report(answer, &view);
	put_counters(answer, &view);
	put_traffic(answer, &view);
	return answer;
}

/* How often the vCPUs left the guest, by kind, as KVM counts it. */
static json_t *exits(struct machine *machine)
{
	static const char *const names[KVM_EXITS] = {
		[KVM_EXITS_ALL] = "all",	 [KVM_EXITS_MMIO] = "mmio",
		[KVM_EXITS_IO] = "io",		 [KVM_EXITS_HALT] = "halt",
		[KVM_EXITS_SIGNAL] = "signal",
		[KVM_EXITS_INJECTED] = "injected",
	};
	uint64_t counts[KVM_EXITS] = { 0 };
	json_t *answer;
	unsigned int i;

	for (i = 0; i < machine->config.cpus; i++)
		if (kvm_vcpu_add_exits(&machine->cpu[i].vcpu, counts) < 0)
			return json_null();
	answer = json_object();
	for (i = 0; i < KVM_EXITS; i++)
		put(answer, names[i], counts[i]);
	return answer;
}

json_t *qmp_answer_status(struct machine *machine)
{
	const struct machine_config *config;
	struct backing_usage usage;
	json_t *answer = json_object(), *about;

	if (!machine) {
		put_text(answer, "state",
			 machine_state_name(MACHINE_INCOMING));
		return answer;
	}
	config = &machine->config;
	about = balloon(machine); /* first: it waits for what is discarded */
	json_object_set_new(answer, "name", qmp_string(config->name));
	put_text(answer, "state", machine_state_name(machine_state(machine)));
	put(answer, "ram_bytes", machine->memory.size);
	usage = backing_usage(&machine->memory);
	put(answer, "rss_bytes", usage.resident);
	put(answer, "huge_bytes", usage.huge);
	put_text(answer, "backing", backing_kind_name(config->backing));
	put(answer, "cpus", config->cpus);
	json_object_set_new(answer, "exits", exits(machine));
	json_object_set_new(answer, "balloon", about);
	return answer;
}

/* --------------------------------------------------------- statistics --- */

json_t *qmp_answer_statistics(struct machine *machine, bool request)
{
	struct balloon_statistics statistics;
	struct balloon_view view;
	json_t *answer = json_object();
	unsigned int i;
	uint64_t age;

	balloon_device_view(&machine->balloon, &view);
	balloon_device_statistics(&machine->balloon, request, &statistics,
				  &age);
	json_object_set_new(answer, "negotiated",
			    json_boolean(took(&view,
					      VIRTIO_BALLOON_F_STATS_VQ)));
	put(answer, "updates", statistics.updates);
	if (statistics.updates)
		put(answer, "age_ms", age);
	for (i = 0; i < BALLOON_STATISTICS; i++)
		if (statistics.present >> i & 1)
			put(answer, balloon_statistic_name(i),
			    statistics.value[i]);
	return answer;
}
