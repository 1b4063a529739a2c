// SPDX-License-Identifier: MIT
/*
 * Runs a program whose memory will be in small pages only, whatever it asks the
 * kernel for: so two monitors are compared over the same memory.
 *
 *   small-pages PROGRAM [ARGUMENT...]
 */
#include <err.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 2)
		errx(2, "usage: small-pages PROGRAM [ARGUMENT...]");
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) < 0)
		err(1, "no word to the kernel about huge pages");
	execvp(argv[1], argv + 1);
	err(1, "%s", argv[1]);
}
