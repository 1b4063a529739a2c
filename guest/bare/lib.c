// SPDX-License-Identifier: MIT
/* What is used of a C library. */
#include "lib.h"

/* The compiler calls these four for structures and loops of its choice. */

void *memcpy(void *to, const void *from, size_t count)
{
	void *start = to;

	__asm__ volatile("rep movsb"
			 : "+D"(to), "+S"(from), "+c"(count)
			 :
			 : "memory");
	return start;
}

void *memmove(void *to, const void *from, size_t count)
{
	const uint8_t *source = from;
	uint8_t *target = to;

	if (target <= source || target >= source + count)
		return memcpy(to, from, count);
	while (count--)
		target[count] = source[count];
	return to;
}

void *memset(void *to, int byte, size_t count)
{
	void *start = to;

	__asm__ volatile("rep stosb"
			 : "+D"(to), "+c"(count)
			 : "a"(byte)
			 : "memory");
	return start;
}

int memcmp(const void *a, const void *b, size_t count)
{
	const uint8_t *left = a, *right = b;

	for (; count; count--, left++, right++)
		if (*left != *right)
			return *left - *right;
	return 0;
}

bool same_text(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

/* Return: the digit's value, or @base for none */
static unsigned int digit_of(char c, unsigned int base)
{
	unsigned int value = base;

	if (c >= '0' && c <= '9')
		value = (unsigned int)(c - '0');
	else if (c >= 'a' && c <= 'f')
		value = (unsigned int)(c - 'a') + 10;
	return value < base ? value : base;
}

bool parse_number(const char *text, uint64_t *number)
{
	unsigned int base = 10;

	if (text[0] == '0' && text[1] == 'x') {
		base = 16;
		text += 2;
	}
	*number = 0;
	if (!*text)
		return false;
	for (; *text; text++) {
		if (digit_of(*text, base) == base)
			return false;
		*number = *number * base + digit_of(*text, base);
	}
	return true;
}

char *next_word(char **rest)
{
	char *start = *rest;

	while (*start == ' ')
		start++;
	*rest = start;
	if (!*start)
		return NULL;
	while (**rest && **rest != ' ')
		++*rest;
	if (**rest)
		*(*rest)++ = '\0';
	return start;
}

struct output {
	char *to;
	size_t size, used;
};

static void put(struct output *out, char c)
{
	if (out->used + 1 < out->size)
		out->to[out->used++] = c;
}

static void put_number(struct output *out, uint64_t value, unsigned int base,
		       unsigned int width)
{
	char digits[24];
	unsigned int count = 0;

	do {
		digits[count++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (count < width && count < sizeof(digits))
		digits[count++] = '0';
	while (count)
		put(out, digits[--count]);
}

static void put_text(struct output *out, const char *text)
{
	while (*text)
		put(out, *text++);
}

/* Return: the character behind the directive */
static const char *put_directive(struct output *out, const char *format,
				 va_list *args)
{
	unsigned int width = 0;
	bool wide = false;
	uint64_t value;

	while (*format >= '0' && *format <= '9')
		width = width * 10 + (unsigned int)(*format++ - '0');
	while (*format == 'l') {
		wide = true;
		format++;
	}
	switch (*format) {
	case 's':
		put_text(out, va_arg(*args, const char *));
		break;
	case 'c':
		put(out, (char)va_arg(*args, int));
		break;
	case 'u':
	case 'x':
		value = wide ? va_arg(*args, uint64_t) :
			       va_arg(*args, unsigned int);
		put_number(out, value, *format == 'u' ? 10 : 16, width);
		break;
	default:
		put(out, *format);
		break;
	}
	return format + 1;
}

size_t format_text(char *to, size_t size, const char *format, va_list args)
{
	struct output out = { to, size, 0 };
	va_list copy;

	va_copy(copy, args);
	while (*format) {
		if (*format == '%')
			format = put_directive(&out, format + 1, &copy);
		else
			put(&out, *format++);
	}
	va_end(copy);
	to[out.used] = '\0';
	return out.used;
}
