/* net.c - see net.h. */
#include "config.h"

#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

enum { KEEPALIVE_IDLE_S = 60, KEEPALIVE_INTERVAL_S = 20, KEEPALIVE_PROBES = 3 };

static bool parse_unix(const char *path, struct mp_address *address, char *err, size_t err_bytes)
{
	struct sockaddr_un *sun = (struct sockaddr_un *)&address->at[0].address;

	if (path[0] == '\0' || strlen(path) >= sizeof(sun->sun_path)) {
		snprintf(err, err_bytes, "'%s': a socket path has 1 to %zu characters",
			 address->text, sizeof(sun->sun_path) - 1);
		return false;
	}
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	memcpy(sun->sun_path, path, strlen(path) + 1);
	address->at[0].len = sizeof(*sun);
	address->count = 1;
	return true;
}

/* Cuts "host:port" or "[v6]:port" in two. host: at most host_bytes with the NUL. */
static bool split(const char *text, char *host, size_t host_bytes, const char **port)
{
	const char *end, *start = text;

	if (text[0] == '[') {
		start = text + 1;
		end = strchr(start, ']');
		if (!end || end[1] != ':')
			return false;
		*port = end + 2;
	} else {
		end = strrchr(text, ':');
		if (!end || memchr(text, ':', (size_t)(end - text)))
			return false;
		*port = end + 1;
	}
	if ((size_t)(end - start) >= host_bytes)
		return false;
	memcpy(host, start, (size_t)(end - start));
	host[end - start] = '\0';
	return true;
}

static bool port_is_valid(const char *port)
{
	size_t digits = strspn(port, "0123456789");

	return digits > 0 && digits <= 5 && port[digits] == '\0' && atoi(port) <= 65535;
}

bool mp_address_split(const char *text, char *host, size_t host_bytes, int *port)
{
	const char *digits;

	*port = 0;
	if (strncmp(text, "unix:", 5) == 0)
		return (size_t)snprintf(host, host_bytes, "%s", text + 5) < host_bytes;
	if (!split(text, host, host_bytes, &digits) || !port_is_valid(digits))
		return false;
	*port = atoi(digits);
	return true;
}

static bool resolve(const char *host, const char *port, struct mp_address *address, char *err,
		    size_t err_bytes)
{
	bool any = host[0] == '\0' || strcmp(host, "*") == 0;
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list, *each;
	int rc;

	hints.ai_flags = AI_NUMERICSERV | (any ? AI_PASSIVE : 0);
	rc = getaddrinfo(any ? NULL : host, port, &hints, &list);
	if (rc != 0) {
		snprintf(err, err_bytes, "'%s': %s", address->text, gai_strerror(rc));
		return false;
	}
	address->count = 0;
	for (each = list; each && address->count < MP_ADDRESS_MAX; each = each->ai_next) {
		memcpy(&address->at[address->count].address, each->ai_addr, each->ai_addrlen);
		address->at[address->count++].len = each->ai_addrlen;
	}
	freeaddrinfo(list);
	return address->count > 0;
}

bool mp_address_parse(const char *text, struct mp_address *address, char *err, size_t err_bytes)
{
	char host[sizeof(address->text)];
	const char *port;

	memset(address, 0, sizeof(*address));
	if (strlen(text) >= sizeof(address->text)) {
		snprintf(err, err_bytes, "an address of more than %zu characters",
			 sizeof(address->text) - 1);
		return false;
	}
	memcpy(address->text, text, strlen(text) + 1);
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, address, err, err_bytes);
	if (!split(text, host, sizeof(host), &port)) {
		snprintf(err, err_bytes, "'%s' is not unix:/path, host:port or [v6]:port", text);
		return false;
	}
	if (!port_is_valid(port)) {
		snprintf(err, err_bytes, "'%s': the port is not a number from 0 to 65535", text);
		return false;
	}
	return resolve(host, port, address, err, err_bytes);
}

static int open_socket(int family)
{
	return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* Closes fd and hands the errno of the failure through. */
static int fail(int fd)
{
	int saved = errno;

	close(fd);
	errno = saved;
	return -1;
}

int mp_connect_begin(const struct mp_address *address, unsigned attempt)
{
	unsigned i = attempt % (unsigned)address->count;
	const struct sockaddr *to = (const struct sockaddr *)&address->at[i].address;
	int fd = open_socket(to->sa_family);

	if (fd < 0)
		return -1;
	if (connect(fd, to, address->at[i].len) < 0 && errno != EINPROGRESS && errno != EINTR)
		return fail(fd);
	return fd;
}

/*
 * A connection to a local port in the ephemeral range where nobody listens can
 * come to meet itself; it would talk to itself for ever and keep the port from
 * whom it belongs to.
 */
static bool is_self_connected(int fd)
{
	struct sockaddr_storage here, there;
	socklen_t here_len = sizeof(here), there_len = sizeof(there);

	memset(&here, 0, sizeof(here));
	memset(&there, 0, sizeof(there));
	if (getsockname(fd, (struct sockaddr *)&here, &here_len) < 0 ||
	    getpeername(fd, (struct sockaddr *)&there, &there_len) < 0)
		return false;
	return here.ss_family != AF_UNIX && here_len == there_len &&
	       memcmp(&here, &there, here_len) == 0;
}

int mp_connect_result(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return errno;
	if (error)
		return error;
	if (is_self_connected(fd))
		return ECONNREFUSED;
	mp_tune(fd);
	return 0;
}

void mp_tune(int fd)
{
	static const int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S,
			 probes = KEEPALIVE_PROBES;

	/* A unix socket refuses TCP_NODELAY and needs none of this. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

/* Removes a socket file that nobody listens on any more. */
static void remove_stale(const struct sockaddr *address, socklen_t len)
{
	const struct sockaddr_un *sun = (const struct sockaddr_un *)address;
	int fd = open_socket(AF_UNIX);

	if (fd < 0)
		return;
	if (connect(fd, address, len) < 0 && errno == ECONNREFUSED)
		unlink(sun->sun_path);
	close(fd);
}

static int listen_at(const struct sockaddr *address, socklen_t len, int backlog)
{
	static const int on = 1, off = 0;
	int fd = open_socket(address->sa_family);

	if (fd < 0)
		return -1;
	if (address->sa_family == AF_UNIX)
		remove_stale(address, len);
	else
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->sa_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	/* On Linux what is accepted has all of that from here: not six system calls for each. */
	mp_tune(fd);
	if (bind(fd, address, len) < 0 || listen(fd, backlog) < 0)
		return fail(fd);
	return fd;
}

int mp_listen(const char *text, int backlog, char *err, size_t err_bytes)
{
	struct mp_address address;
	int fd = -1, i;

	if (!mp_address_parse(text, &address, err, err_bytes))
		return -1;
	/* In the resolver's order of preference: a host without IPv6 falls back to IPv4. */
	for (i = 0; i < address.count && fd < 0; i++) {
		fd = listen_at((const struct sockaddr *)&address.at[i].address, address.at[i].len,
			       backlog);
		if (fd < 0 && errno == EADDRINUSE)
			break;
	}
	if (fd < 0)
		snprintf(err, err_bytes, "%s: %s", text, strerror(errno));
	return fd;
}

int mp_accept(int listener)
{
	int fd;

	do
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	return fd;
}

int mp_local_port(int fd)
{
	struct sockaddr_storage here;
	socklen_t len = sizeof(here);

	if (getsockname(fd, (struct sockaddr *)&here, &len) < 0)
		return 0;
	if (here.ss_family == AF_INET)
		return ntohs(((struct sockaddr_in *)&here)->sin_port);
	if (here.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&here)->sin6_port);
	return 0;
}

void mp_remote_text(int fd, char *text, size_t text_bytes)
{
	struct sockaddr_storage there;
	socklen_t len = sizeof(there);
	char host[INET6_ADDRSTRLEN], port[8];

	snprintf(text, text_bytes, "?");
	if (getpeername(fd, (struct sockaddr *)&there, &len) == 0 &&
	    getnameinfo((struct sockaddr *)&there, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) == 0)
		snprintf(text, text_bytes, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

void mp_sockaddr_text(const struct sockaddr *address, char *out, size_t bytes)
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
	const struct sockaddr_in *four = (const struct sockaddr_in *)address;
	const struct sockaddr_un *path = (const struct sockaddr_un *)address;
	char host[INET6_ADDRSTRLEN] = "";

	if (address->sa_family == AF_INET) {
		inet_ntop(AF_INET, &four->sin_addr, host, sizeof(host));
		snprintf(out, bytes, "%s:%u", host, ntohs(four->sin_port));
	} else if (address->sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof(host));
		snprintf(out, bytes, "[%s]:%u", host, ntohs(six->sin6_port));
	} else {
		snprintf(out, bytes, "%.*s:0", (int)sizeof(path->sun_path), path->sun_path);
	}
}
