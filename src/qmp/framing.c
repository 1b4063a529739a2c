// SPDX-License-Identifier: MIT
/* JSON objects out of a stream of bytes. */
#include "qmp/framing.h"

static bool is_space(unsigned char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void restart(struct qmp_framing *framing)
{
	framing->used = 0;
	framing->depth = 0;
	framing->string = framing->escape = false;
}

/* Return: what is wrong with @c here, or NULL */
static const char *open_level(struct qmp_framing *framing, bool array)
{
	if (framing->depth == QMP_DEPTH_MAX)
		return "JSON is nested too deeply (64 levels at most)";
	framing->arrays = framing->arrays << 1 | array;
	framing->depth++;
	return NULL;
}

static const char *close_level(struct qmp_framing *framing, bool array)
{
	if ((framing->arrays & 1) != array)
		return "JSON has a bracket that closes another kind";
	framing->arrays >>= 1;
	framing->depth--;
	return NULL;
}

static const char *in_string(struct qmp_framing *framing, unsigned char c)
{
	if (c < ' ')
		return "JSON has a control character inside a string";
	if (framing->escape)
		framing->escape = false;
	else if (c == '\\')
		framing->escape = true;
	else if (c == '"')
		framing->string = false;
	return NULL;
}

static const char *in_object(struct qmp_framing *framing, unsigned char c)
{
	switch (c) {
	case '{':
	case '[':
		return open_level(framing, c == '[');
	case '}':
	case ']':
		return close_level(framing, c == ']');
	case '"':
		framing->string = true;
		return NULL;
	default:
		if ((c < ' ' && !is_space(c)) || c >= 0x7f)
			return "this is not JSON";
		return NULL;
	}
}

/* Return: what is wrong with @c as the next byte, or NULL */
static const char *take(struct qmp_framing *framing, unsigned char c)
{
	if (!framing->depth && c != '{')
		return "a JSON object is expected";
	if (framing->used == sizeof(framing->text))
		return "JSON object is longer than 64 KiB";
	framing->text[framing->used++] = c;
	if (framing->string)
		return in_string(framing, c);
	return in_object(framing, c);
}

enum qmp_frame qmp_framing_next(struct qmp_framing *framing, const char **data,
				size_t *left, const char **fault)
{
	unsigned char c;

	if (!framing->depth)
		restart(framing); /* the caller is done with the last one */
	while (*left) {
		c = *(*data)++;
		--*left;
		if (framing->skip) {
			framing->skip = c != '\n';
			continue;
		}
		if (!framing->depth && is_space(c))
			continue;
		*fault = take(framing, c);
		if (*fault) {
			restart(framing);
			framing->skip = c != '\n';
			return QMP_FRAME_FAULT;
		}
		if (!framing->depth)
			return QMP_FRAME_OBJECT;
	}
	return QMP_FRAME_MORE;
}
