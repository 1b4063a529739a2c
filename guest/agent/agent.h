/* SPDX-License-Identifier: MIT */
/* The guest's agent: commands, each of which returns NULL or what went wrong. */
#ifndef AGENT_H
#define AGENT_H

/* One line of a reply. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* memory.c */
const char *agent_keep(char **args);  /* MIB SEED */
const char *agent_check(char **args); /* every word that is kept */
const char *agent_spoil(char **args); /* one of them: shows that check() can fail */
const char *agent_swap_out(char **args);
const char *agent_dirty(char **args);	     /* MIB SEED: written, then free */
const char *agent_start_writer(char **args); /* MIB RATE_MIB_S SEED */
const char *agent_check_writers(char **args);

/* stress.c */
const char *agent_stress(char **args); /* OPTION,OPTION... of stress-ng */
const char *agent_stress_end(char **args);

#endif
