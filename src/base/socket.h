/* SPDX-License-Identifier: MIT */
/* Sockets by address: Unix paths and TCP hosts. */
#ifndef BASE_SOCKET_H
#define BASE_SOCKET_H

#include "base/error.h"

/**
 * socket_listen_unix() - Listen on a Unix socket that only its owner can use
 *
 * The file has mode 0600 from its birth. A file that is there but that nobody
 * serves any more is replaced; one in use is an error, and who serves it does
 * not see that it was looked at.
 *
 * Return: the socket, or -1 with @err
 */
int socket_listen_unix(const char *path, struct error *err);

/* Both connecting calls give up after 10 seconds. */
int socket_connect_unix(const char *path, struct error *err);

/* @address: "HOST:PORT", IPv6 hosts in brackets.
 * Return: the socket, or -1 with @err */
int socket_listen_tcp(const char *address, struct error *err);
int socket_connect_tcp(const char *address, struct error *err);

#endif
