/* listener.c - see listener.h. */
#include "listener.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "net.h"
#include "state.h"

enum {
	BACKLOG = 1024,
	ACCEPTS_PER_EVENT = 256,
	RETRY_MS = 100,
};

static const char *const names[MP_LISTENERS] = {"redis-listen", "memcached-listen", "peer"};

static void stop(struct mp_listener *listener)
{
	if (listener->accepting)
		event_del(&listener->readable);
	listener->accepting = false;
}

static void start(struct mp_listener *listener)
{
	if (listener->fd < 0 || listener->accepting)
		return;
	event_add(&listener->readable, NULL);
	listener->accepting = true;
}

/* No file descriptor or memory for another one just now; those that wait in line may yet get one.
 */
static void pause_all(struct mp_proxy *proxy, int error)
{
	mp_warn("cannot accept connections: %s", strerror(error));
	for (unsigned i = 0; i < MP_LISTENERS; i++)
		stop(&proxy->listeners.at[i]);
	proxy->listeners.retry_ns = mp_now_ns(proxy) + RETRY_MS * UINT64_C(1000000);
}

static void accept_one(struct mp_listener *listener, int fd)
{
	switch (listener->kind) {
	case MP_LISTEN_REDIS:
		mp_session_accept(listener->proxy, fd, MP_REDIS);
		break;
	case MP_LISTEN_MEMCACHED:
		mp_session_accept(listener->proxy, fd, MP_MEMCACHED);
		break;
	default:
		mp_relay_in_accept(listener->proxy, fd, 0);
		break;
	}
}

static void on_readable(evutil_socket_t listener_fd, short what, void *ctx)
{
	struct mp_listener *listener = ctx;

	(void)what;
	for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
		int fd = mp_accept(listener_fd);

		if (fd >= 0) {
			accept_one(listener, fd);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
			pause_all(listener->proxy, errno);
		else if (errno == ECONNABORTED || errno == EINTR)
			continue;
		return;
	}
}

static bool open_one(struct mp_proxy *proxy, enum mp_listener_kind kind, const char *address,
		     char *err, size_t err_bytes)
{
	struct mp_listener *listener = &proxy->listeners.at[kind];
	char why[256];

	listener->proxy = proxy;
	listener->kind = kind;
	if (!address)
		return true;
	listener->fd = mp_listen(address, BACKLOG, why, sizeof(why));
	if (listener->fd < 0) {
		snprintf(err, err_bytes, "%s %s", names[kind], why);
		return false;
	}
	event_assign(&listener->readable, proxy->base, listener->fd, EV_READ | EV_PERSIST,
		     on_readable, listener);
	return true;
}

void mp_listeners_init(struct mp_listeners *listeners)
{
	for (unsigned i = 0; i < MP_LISTENERS; i++)
		listeners->at[i].fd = -1;
}

bool mp_listeners_open(struct mp_proxy *proxy, char *err, size_t err_bytes)
{
	const struct mp_proxy_options *options = &proxy->options;

	if (!open_one(proxy, MP_LISTEN_REDIS, options->redis_listen, err, err_bytes) ||
	    !open_one(proxy, MP_LISTEN_MEMCACHED, options->memcached_listen, err, err_bytes) ||
	    !open_one(proxy, MP_LISTEN_PEER,
		      options->dial ? NULL : options->peer_address[options->id], err, err_bytes))
		return false;
	start(&proxy->listeners.at[MP_LISTEN_PEER]);
	return true;
}

uint64_t mp_listeners_turn(struct mp_proxy *proxy)
{
	struct mp_listeners *listeners = &proxy->listeners;
	uint64_t now_ns = mp_now_ns(proxy);
	uint64_t patience_ns = proxy->options.hold_timeout_ms * UINT64_C(1000000);

	if (listeners->opened_ns == 0)
		listeners->opened_ns = now_ns;
	if (listeners->retry_ns) {
		if (now_ns < listeners->retry_ns)
			return listeners->retry_ns;
		listeners->retry_ns = 0;
		start(&listeners->at[MP_LISTEN_PEER]);
	}
	if (proxy->draining)
		return UINT64_MAX;
	start(&listeners->at[MP_LISTEN_MEMCACHED]);
	if (listeners->at[MP_LISTEN_REDIS].accepting || listeners->at[MP_LISTEN_REDIS].fd < 0)
		return UINT64_MAX;
	if (!proxy->commands && now_ns < listeners->opened_ns + patience_ns)
		return listeners->opened_ns + patience_ns;
	start(&listeners->at[MP_LISTEN_REDIS]);
	return UINT64_MAX;
}

static void close_one(struct mp_listener *listener)
{
	stop(listener);
	if (listener->fd >= 0)
		close(listener->fd);
	listener->fd = -1;
}

void mp_listeners_drain(struct mp_proxy *proxy)
{
	close_one(&proxy->listeners.at[MP_LISTEN_REDIS]);
	close_one(&proxy->listeners.at[MP_LISTEN_MEMCACHED]);
}

void mp_listeners_close(struct mp_proxy *proxy)
{
	for (unsigned i = 0; i < MP_LISTENERS; i++)
		close_one(&proxy->listeners.at[i]);
}
