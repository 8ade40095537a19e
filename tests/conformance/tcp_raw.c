/* tcp_raw.c - see tcp_raw.h. */
#include "config.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tcp_raw.h"

static void raw_channel(void *ctx, unsigned peer, bool up)
{
	(void)ctx;
	(void)peer;
	(void)up;
}

static void raw_message(void *ctx, unsigned peer, const void *message, size_t len)
{
	(void)ctx;
	(void)peer;
	(void)message;
	(void)len;
}

static void raw_stream(void *ctx, enum mu_plane plane, unsigned peer, int fd, bool dialled)
{
	struct raw *raw = ctx;

	(void)plane;
	if (dialled)
		raw->stream = fd;
	else if (peer == 1)
		raw->dialled_by_peer = fd;
	else
		close(fd);
}

static void raw_failed(void *ctx, enum mu_plane plane, unsigned peer)
{
	(void)plane;
	(void)peer;
	((struct raw *)ctx)->stream = -2;
}

void raw_start(struct raw *raw)
{
	static const struct mu_peering_events events = {
		.channel = raw_channel,
		.message = raw_message,
		.stream = raw_stream,
		.stream_failed = raw_failed,
	};
	struct mu_fabric_config config;
	char err[200] = "", *home;

	*raw = (struct raw){.group = group_new()};
	raw->target = group_open(raw->group, 2);
	raw->memory = raw->target->ops->local(raw->target, LOG);
	assert_int_equal(raw->target->ops->grant_write(raw->target, RAW_ID, RAW_BALLOT), 0);
	config = group_config(raw->group, RAW_ID);
	home = tcp_enter_host(RAW_ID);
	raw->peering = tcp_join(raw->group->place, &config, err, sizeof(err));
	assert_non_null(raw->peering);
	raw->base = peering_base(raw->peering);
	raw->base->ops->attach(raw->base, &events, raw);
	assert_int_equal(peering_start(raw->peering), 0);
	tcp_leave_host(home);
}

void raw_stop(struct raw *raw)
{
	raw->base->ops->attach(raw->base, NULL, NULL);
	peering_close(raw->peering);
	group_free(raw->group);
}

void raw_read(int fd, void *to, size_t bytes)
{
	size_t got = 0;
	uint64_t since_ns = clock_ns();

	while (got < bytes) {
		ssize_t n = recv(fd, (char *)to + got, bytes - got, MSG_DONTWAIT);

		if (n > 0)
			got += (size_t)n;
		else if (n == 0 || clock_ns() - since_ns > DEADLINE_NS)
			fail_msg("%zu bytes of %zu came", got, bytes);
	}
}

int raw_dial(struct raw *raw)
{
	struct tcp_welcome welcome;
	int fd;

	do {
		raw->stream = -1;
		WAIT_UNTIL(raw->group, raw->base->ops->dial(raw->base, MU_PLANE_DATA, 2) == 0);
		WAIT_UNTIL(raw->group, raw->stream != -1);
	} while (raw->stream == -2);
	fd = raw->stream;
	raw_read(fd, &welcome, sizeof(welcome));
	assert_int_equal(welcome.magic, TCP_MAGIC);
	assert_int_equal(welcome.replication_bytes, LOG_BYTES);
	raw->sequence = 0;
	return fd;
}

void raw_send(int fd, const void *bytes, size_t len)
{
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
}
