/* log.h - one line an event on stderr: "2026-11-22T21:49:33.123Z info  r1 redis: connected". */
#ifndef MP_LOG_H
#define MP_LOG_H

enum mp_log_level { MP_LOG_ERROR, MP_LOG_WARN, MP_LOG_INFO, MP_LOG_DEBUG };

/* replica: shown as rN; 0 shows none. Call once before any thread starts. */
void mp_log_init(enum mp_log_level level, unsigned replica);
/* printf-like; thread-safe; one write(2) a line. */
void mp_log(enum mp_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define mp_error(...) mp_log(MP_LOG_ERROR, __VA_ARGS__)
#define mp_warn(...) mp_log(MP_LOG_WARN, __VA_ARGS__)
#define mp_info(...) mp_log(MP_LOG_INFO, __VA_ARGS__)
#define mp_debug(...) mp_log(MP_LOG_DEBUG, __VA_ARGS__)
#endif
