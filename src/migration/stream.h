/* SPDX-License-Identifier: MIT */
/*
 * The migration stream on the wire: docs/spec/stream.md, which is normative.
 * Only structures and constants; everything is little-endian.
 */
#ifndef MIGRATION_STREAM_H
#define MIGRATION_STREAM_H

#include <linux/types.h>

#define STREAM_MAGIC "AEROSTAT"
#define STREAM_VERSION 1 /* of this writer */
#define STREAM_OLDEST 1	 /* oldest version a reader must know for it */

/* Section 2: what a stream begins with. */
struct stream_header {
	char magic[8];
	__le32 version; /* of the writer */
	__le32 oldest;	/* a reader of at least this version can read it */
	__le32 flags;	/* STREAM_FLAG_* */
	__le32 reserved; /* written as 0, ignored */
};

#define STREAM_FLAG_VERIFY (1u << 0) /* a VERIFY record will come */

/* Section 3: what every record begins with; `length` bytes follow. */
struct stream_record {
	__le32 type;
	__le32 reserved; /* written as 0, ignored */
	__le64 length;
};

/* Section 4: record types. One with the top bit may be skipped by a reader
 * that does not know it. */
enum stream_type {
	/* source to destination */
	STREAM_CONFIG = 0x01,
	STREAM_CPUID = 0x02,
	STREAM_PAGES = 0x10,
	STREAM_ZERO = 0x11,
	STREAM_STATE = 0x20,
	STREAM_VERIFY = 0x30,
	STREAM_END = 0x3f,
	STREAM_COMMIT = 0x40,
	STREAM_WAITING = 0x80000001,  /* optional */
	STREAM_ANNOUNCE = 0x80000002, /* optional */
	/* destination to source */
	STREAM_READY = 0x80,
	STREAM_LOADED = 0x81,
	STREAM_RUNNING = 0x82,
	STREAM_RESIDENT = 0x80000083, /* optional */
	STREAM_REFUSED = 0x8f,
};

#define STREAM_TYPE_OPTIONAL 0x80000000u

/* A run of guest frames: PAGES has one and then its content, ZERO and ANNOUNCE
 * have 1 to STREAM_RUNS_MAX. */
struct stream_run {
	__le64 first; /* guest frame number */
	__le64 count; /* pages of 4096 bytes */
};

/* VERIFY has 1 to STREAM_RUNS_MAX of these. */
struct stream_hash {
	struct stream_run run;
	__le64 hash; /* XXH3 64 of the run's content */
};

struct stream_end {
	__le32 run; /* 1: the guest was running and shall run on */
	__le32 reserved;
};

struct stream_loaded {
	__le64 verified_pages;
};

struct stream_running {
	__le64 bytes_received; /* the whole stream, COMMIT included */
};

struct stream_resident {
	__le64 bytes; /* guest memory resident at the destination */
};

#define STREAM_PAGES_MAX 1024u	 /* pages in one PAGES record: 4 MiB */
#define STREAM_RUNS_MAX 4096u	 /* runs in one ZERO or VERIFY record */
#define STREAM_CONFIG_MAX 16384u /* bytes of CONFIG, CPUID and REFUSED */
#define STREAM_STATE_MAX (1u << 20) /* bytes of one STATE record */
#define STREAM_STATES_MAX 64u	    /* STATE records in a stream */

_Static_assert(sizeof(struct stream_header) == 24, "stream.md section 2");
_Static_assert(sizeof(struct stream_record) == 16, "stream.md section 3");
_Static_assert(sizeof(struct stream_run) == 16, "stream.md section 4");
_Static_assert(sizeof(struct stream_hash) == 24, "stream.md section 4");
_Static_assert(sizeof(struct stream_end) == 8, "stream.md section 4");
_Static_assert(sizeof(struct stream_loaded) == 8, "stream.md section 4");
_Static_assert(sizeof(struct stream_running) == 8, "stream.md section 4");
_Static_assert(sizeof(struct stream_resident) == 8, "stream.md section 4");

#endif
