// SPDX-License-Identifier: MIT
/*
 * In ThreadSanitizer's build of aerostat only. It looks at what system calls
 * read, and the sender has the kernel read guest memory while the guest and its
 * devices write it: by design, see page_is_zero(). So it does not see this one.
 */
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	return syscall(SYS_sendmsg, fd, message, flags);
}
