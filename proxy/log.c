/* log.c - see log.h. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static enum mp_log_level log_level = MP_LOG_INFO;
static unsigned log_replica;

void mp_log_init(enum mp_log_level level, unsigned replica)
{
	log_level = level;
	log_replica = replica;
}

void mp_log(enum mp_log_level level, const char *format, ...)
{
	static const char *const names[] = {"error", "warn ", "info ", "debug"};
	char line[1024];
	struct timespec now;
	struct tm utc;
	va_list args;
	size_t n;
	int m;

	if (level > log_level)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &utc);
	n += (size_t)snprintf(line + n, sizeof(line) - n, ".%03ldZ %s ", now.tv_nsec / 1000000,
			      names[level]);
	if (log_replica)
		n += (size_t)snprintf(line + n, sizeof(line) - n, "r%u ", log_replica);
	va_start(args, format);
	m = vsnprintf(line + n, sizeof(line) - n - 1, format, args);
	va_end(args);
	n = m < 0 ? n : n + (size_t)m;
	if (n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	/* Nothing can be done about a log that does not take the line. */
	if (write(STDERR_FILENO, line, n) < 0)
		return;
}
