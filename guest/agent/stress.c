// SPDX-License-Identifier: MIT
/*
 * A load that verifies itself: stress-ng, which a guest has where its image was
 * built with it. It allocates, writes, reads back and frees for ever; its status
 * at the end says whether each word was what had been written.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define STRESS "/bin/stress-ng"
#define OUTPUT "/tmp/stress"
#define MOST_OPTIONS 30

static pid_t running;

static void become_stress(char *options)
{
	char *words[MOST_OPTIONS + 2] = {STRESS};
	int count = 1, out;

	while (count <= MOST_OPTIONS && (words[count] = strsep(&options, ",")))
		count++;
	mkdir("/tmp", 0755);
	out = open(OUTPUT, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	chdir("/tmp");
	/* Where the loader of the image's programs looks, too. */
	setenv("LD_LIBRARY_PATH", "/job/lib", 1);
	execv(STRESS, words);
	_exit(127);
}

const char *agent_stress(char **args)
{
	if (running)
		return "it runs already";
	if (access(STRESS, X_OK))
		return "this guest has no stress-ng";
	running = fork();
	if (!running)
		become_stress(args[0]);
	return running < 0 ? strerror(errno) : NULL;
}

static void say_output(void)
{
	FILE *file = fopen(OUTPUT, "re");
	char line[200];

	while (file && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		say("%s", line);
	}
	if (file)
		fclose(file);
}

/* Its summary, and an error unless all that was verified was right. */
const char *agent_stress_end(char **args)
{
	static char why[64];
	int status;
	(void)args;

	if (running <= 0)
		return "it does not run";
	kill(running, SIGINT);
	if (waitpid(running, &status, 0) != running)
		return strerror(errno);
	running = 0;
	say_output();
	if (!status)
		return NULL;
	snprintf(why, sizeof(why), "stress-ng ended with status %d, signal %d",
		 WIFEXITED(status) ? WEXITSTATUS(status) : 0,
		 WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	return why;
}
