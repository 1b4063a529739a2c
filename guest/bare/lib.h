/* SPDX-License-Identifier: MIT */
/* What is used of a C library. */
#ifndef BARE_LIB_H
#define BARE_LIB_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int byte, size_t count);
int memcmp(const void *a, const void *b, size_t count);

bool same_text(const char *a, const char *b);

/* Decimal, or hexadecimal behind 0x. Return: false when it is not all digits */
bool parse_number(const char *text, uint64_t *number);

/* Knows %s, %c, %u, %lu, %x, %lx, with a zero-padded width. Return: length */
size_t format_text(char *to, size_t size, const char *format, va_list args);

/* Next blank-separated word of *@rest, cut off it. Return: NULL at its end */
char *next_word(char **rest);

#endif
