/* Keeps the log messages of libbpf and libxdp for error messages, instead of printing them.
 *
 * Both libraries take a print callback of the same type.  Each module that includes this file
 * has its own buffer, one per thread.
 */
#ifndef XDPCAP_LIBRARY_LOG_H
#define XDPCAP_LIBRARY_LOG_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static __thread char xdpcap_library_log[2048];

/* `level`: 0 warning, 1 information, 2 debugging, in both libraries. */
static int xdpcap_log_message(int level, const char *format, va_list args)
{
	size_t used = strlen(xdpcap_library_log);

	if (level > 1)
		return 0;
	return vsnprintf(xdpcap_library_log + used, sizeof(xdpcap_library_log) - used, format, args);
}

#endif
