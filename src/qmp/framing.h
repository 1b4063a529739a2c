/* SPDX-License-Identifier: MIT */
/*
 * JSON objects out of a stream of bytes, without parsing them: where each
 * begins and ends. Bounded: an object has at most QMP_LINE_MAX bytes and
 * QMP_DEPTH_MAX levels.
 *
 * Objects follow each other with or without whitespace between them, and may
 * span lines, as QEMU's clients send them. After a fault everything up to the
 * end of the line is passed over, so that the next line is read afresh.
 */
#ifndef QMP_FRAMING_H
#define QMP_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QMP_LINE_MAX 65536
#define QMP_DEPTH_MAX 64

/* All zero at the start of a stream. */
struct qmp_framing {
	size_t used;
	unsigned int depth;
	uint64_t arrays; /* bit 0: the innermost level is an array, and so on */
	bool string, escape;
	bool skip; /* up to the end of the line */
	char text[QMP_LINE_MAX];
};

/*
 * QMP_FRAME_MORE	all input is consumed, no object ended in it.
 * QMP_FRAME_OBJECT	framing->text holds one, framing->used bytes, until the
 *			next call; its brackets match, nothing else is known.
 * QMP_FRAME_FAULT	what came cannot be an object; see *@fault.
 */
enum qmp_frame {
	QMP_FRAME_MORE,
	QMP_FRAME_OBJECT,
	QMP_FRAME_FAULT,
};

/**
 * qmp_framing_next() - Consume input up to the next object or fault
 * @data:	peer: advanced behind what was consumed
 * @left:	bytes at *@data, reduced likewise
 * @fault:	filled for QMP_FRAME_FAULT: a static string
 */
enum qmp_frame qmp_framing_next(struct qmp_framing *framing, const char **data,
				size_t *left, const char **fault);

#endif
