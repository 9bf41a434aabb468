/* What a library says while it works: kept for an error of ours instead of printed.
 *
 * libbpf and libxdp hand their words to a callback of the same shape.  Each module that
 * includes this has a buffer of its own, one a thread.
 */
#ifndef XDPCAP_SAID_H
#define XDPCAP_SAID_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static __thread char xdpcap_said[2048];

/* `level`: 0 warning, 1 information, 2 debugging, in both libraries. */
static int xdpcap_listen(int level, const char *format, va_list args)
{
	size_t used = strlen(xdpcap_said);

	if (level > 1)
		return 0;
	return vsnprintf(xdpcap_said + used, sizeof(xdpcap_said) - used, format, args);
}

#endif
