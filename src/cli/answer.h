/* SPDX-License-Identifier: MIT */
/* What a machine answers, read and shown by the commands that ask it. */
#ifndef CLI_ANSWER_H
#define CLI_ANSWER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LABEL "%-10s " /* in front of a line of what is shown */

/* Return: 0 where there is none */
static inline uint64_t number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* Return: "" where there is none */
static inline const char *string(const json_t *object, const char *key)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value ? value : "";
}

/* @names: of strings; may be NULL */
static inline bool has_name(const json_t *names, const char *wanted)
{
	json_t *name;
	size_t i;

	json_array_foreach(names, i, name)
		if (!strcmp(json_string_value(name), wanted))
			return true;
	return false;
}

#endif
