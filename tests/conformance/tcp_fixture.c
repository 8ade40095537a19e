/* tcp_fixture.c - the tcp fabric in the suite, and what is to be said of it alone. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fabric/tcp_target.h"
#include "fabric/tcp_wire.h"
#include "peering.h"
#include "place.h"
#include "writer.h"

#define PORT 7400

/* Every replica of every group has a loopback address of its own: 127.x.y.id. */
struct tcp_place {
	char *directory;
	unsigned number;
};

/* Which peering belongs to which fabric of this process. */
struct joined {
	struct mu_fabric *fabric; /* NULL: the place is free */
	struct peering *peering;
};
static struct joined joined[MU_ID_SLOTS];
static pthread_mutex_t joined_lock = PTHREAD_MUTEX_INITIALIZER;

static void *tcp_group_new(void)
{
	static unsigned groups;
	struct tcp_place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	place->directory = place_new();
	place->number = (unsigned)getpid() * 97 + groups++;
	return place;
}

static void tcp_group_free(void *ctx)
{
	struct tcp_place *place = ctx;

	place_free(place->directory);
	free(place);
}

static void tcp_lose_memory(void *ctx, unsigned id)
{
	place_lose(((struct tcp_place *)ctx)->directory, id);
}

/*
 * A forked process has its parent's descriptors: as long as it keeps them open
 * the parent's peers do not notice that it closes a connection.
 */
static void close_inherited(void)
{
	static pid_t opener;

	if (opener != 0 && opener != getpid()) {
		for (int fd = 3; fd < 1024; fd++) {
			char path[64], what[64] = "";

			snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
			if (readlink(path, what, sizeof(what) - 1) > 0 &&
			    (strncmp(what, "socket:", 7) == 0 ||
			     strncmp(what, "anon_inode:", 11) == 0))
				close(fd);
		}
		memset(joined, 0, sizeof(joined));
	}
	opener = getpid();
}

/* The place of this fabric's peering, or, for NULL, one that is free. */
static struct joined *find(const struct mu_fabric *fabric)
{
	for (unsigned i = 0; i < MU_ID_SLOTS; i++)
		if (joined[i].fabric == fabric)
			return &joined[i];
	return NULL;
}

static void remember(const struct joined *place)
{
	struct joined *room;

	pthread_mutex_lock(&joined_lock);
	room = find(NULL);
	if (room != NULL)
		*room = *place;
	pthread_mutex_unlock(&joined_lock);
	assert_non_null(room);
}

static struct peering *forget(const struct mu_fabric *fabric)
{
	struct peering *peering = NULL;
	struct joined *place;

	pthread_mutex_lock(&joined_lock);
	place = find(fabric);
	if (place != NULL) {
		peering = place->peering;
		*place = (struct joined){0};
	}
	pthread_mutex_unlock(&joined_lock);
	assert_non_null(peering);
	return peering;
}

/* What the fabrics complained of last. */
static pthread_mutex_t line_lock = PTHREAD_MUTEX_INITIALIZER;
static char last_line[200];

static void take_line(void *ctx, const char *line)
{
	(void)ctx;
	pthread_mutex_lock(&line_lock);
	snprintf(last_line, sizeof(last_line), "%s", line);
	pthread_mutex_unlock(&line_lock);
}

static bool last_line_has(const char *words)
{
	bool has;

	pthread_mutex_lock(&line_lock);
	has = strstr(last_line, words) != NULL;
	pthread_mutex_unlock(&line_lock);
	return has;
}

/* As the fabric's own, and then the peering goes too. */
static const struct mu_fabric_ops *real_ops;
static struct mu_fabric_ops fixture_ops;
static pthread_mutex_t ops_lock = PTHREAD_MUTEX_INITIALIZER;

static void close_both(struct mu_fabric *fabric)
{
	struct peering *peering = forget(fabric);

	real_ops->close(fabric);
	peering_close(peering);
}

static struct peering *join(const struct tcp_place *place, const struct mu_fabric_config *config,
			    char *err, size_t err_bytes)
{
	char address[MU_ID_SLOTS][32];
	struct peering_options options;

	peering_options_init(&options);
	options.id = config->id;
	options.group_id = config->group_id;
	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		if (!(config->member_mask & (1U << id)))
			continue;
		snprintf(address[id], sizeof(address[id]), "127.%u.%u.%u:%d",
			 1 + place->number / 250 % 250, 1 + place->number % 250, id, PORT);
		options.address[id] = address[id];
	}
	return peering_open(&options, err, err_bytes);
}

static void change_ops(struct mu_fabric *fabric)
{
	pthread_mutex_lock(&ops_lock);
	if (real_ops == NULL) {
		real_ops = fabric->ops;
		fixture_ops = *real_ops;
		fixture_ops.close = close_both;
	}
	pthread_mutex_unlock(&ops_lock);
	fabric->ops = &fixture_ops;
}

static int tcp_open_replica(void *ctx, const struct mu_fabric_config *config,
			    struct mu_fabric **out, char *err, size_t err_bytes)
{
	const struct tcp_place *place = ctx;
	struct mu_fabric_tcp_options options = {.directory = place->directory, .log = take_line};
	struct joined where = {0};

	close_inherited();
	where.peering = join(place, config, err, err_bytes);
	if (where.peering == NULL) {
		/* The port is what an id has one of, before the memory comes into it. */
		if (strstr(err, "in use"))
			snprintf(err, err_bytes, "replica %u is already running", config->id);
		return -1;
	}
	options.peering = peering_base(where.peering);
	if (mu_fabric_tcp_open(out, config, &options, err, err_bytes) != 0) {
		peering_close(where.peering);
		return -1;
	}
	where.fabric = *out;
	change_ops(*out);
	remember(&where);
	assert_int_equal(peering_start(where.peering), 0);
	return 0;
}

static bool tcp_is_writing(void *ctx, unsigned target, unsigned writer)
{
	const struct tcp_place *place = ctx;
	const struct own_memory_header *header;
	const struct tcp_notes *notes;
	char path[512];
	bool writing;
	int fd;

	snprintf(path, sizeof(path), "%s/replica-%u.mu", place->directory, target);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	header = mmap(NULL, OWN_MEMORY_HEADER_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(header, MAP_FAILED);
	close(fd);
	notes = (const struct tcp_notes *)(const void *)header->notes;
	writing = notes->writing[writer][DATA] && OWN_MEMORY_BALLOT_HOLDER(header->word) == writer;
	munmap((void *)header, OWN_MEMORY_HEADER_BYTES);
	return writing;
}

#ifdef MU_FAULTS
extern int tcp_fault;

static void tcp_break_revocation(enum conformance_fault fault)
{
	tcp_fault = fault;
}
#endif

const struct conformance_fabric tcp_fixture = {
	.name = "tcp",
	.group_new = tcp_group_new,
	.group_free = tcp_group_free,
	.open = tcp_open_replica,
	.lose_memory = tcp_lose_memory,
	.op_timeout_ns = 2000000000,
	.slowness = 5,
	.concurrent = true,
	.has_threads = true,
	.is_writing = tcp_is_writing,
#ifdef MU_FAULTS
	.break_revocation = tcp_break_revocation,
#endif
};

/* -------------------------------------------------------- tests of tcp alone */

#define RAW_ID 3
#define MINE BALLOT(1, RAW_ID)

/* A member without a fabric, that says on its streams what it likes. */
struct raw {
	struct group *group;
	struct mu_fabric *target;
	const uint8_t *memory;
	struct peering *peering;
	struct mu_peering *base;
	_Atomic int stream; /* the last that came; -1: none, -2: failed */
	uint32_t sequence;
};

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
	(void)peer;
	if (dialled)
		raw->stream = fd;
	else
		close(fd);
}

static void raw_failed(void *ctx, enum mu_plane plane, unsigned peer)
{
	(void)plane;
	(void)peer;
	((struct raw *)ctx)->stream = -2;
}

static void raw_start(struct raw *raw)
{
	static const struct mu_peering_events events = {raw_channel, raw_message, raw_stream,
							raw_failed};
	struct mu_fabric_config config;
	char err[200] = "";

	*raw = (struct raw){.group = group_new()};
	raw->target = group_open(raw->group, 2);
	raw->memory = raw->target->ops->local(raw->target, LOG);
	assert_int_equal(raw->target->ops->grant_write(raw->target, RAW_ID, MINE), 0);
	config = group_config(raw->group, RAW_ID);
	raw->peering = join(raw->group->place, &config, err, sizeof(err));
	assert_non_null(raw->peering);
	raw->base = peering_base(raw->peering);
	raw->base->ops->attach(raw->base, &events, raw);
	assert_int_equal(peering_start(raw->peering), 0);
}

static void raw_stop(struct raw *raw)
{
	raw->base->ops->attach(raw->base, NULL, NULL);
	peering_close(raw->peering);
	group_free(raw->group);
}

static void raw_read(int fd, void *to, size_t bytes)
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

/* A new stream, which has been welcomed. */
static int raw_dial(struct raw *raw)
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

static void raw_send(int fd, const void *bytes, size_t len)
{
	assert_int_equal(send(fd, bytes, len, MSG_NOSIGNAL), len);
}

static void assert_closed(struct raw *raw, int fd)
{
	char sink[64];
	ssize_t n;

	WAIT_UNTIL(raw->group, (n = recv(fd, sink, sizeof(sink), MSG_DONTWAIT)) == 0 ||
				       (n < 0 && errno != EAGAIN));
	close(fd);
}

static void tcp_requests_that_make_no_sense_end_the_connection(void **state)
{
	static const struct {
		struct tcp_request request;
		const char *about;
	} cases[] = {
		{{.op = 9, .region = LOG, .sequence = 1, .len = 8}, "does not exist"},
		{{.op = 0, .region = LOG, .sequence = 1, .len = 8}, "does not exist"},
		{{.op = TCP_READ, .region = MU_REGION_PRIVATE, .sequence = 1, .len = 8},
		 "nobody else's"},
		{{.op = TCP_WRITE, .region = 77, .sequence = 1, .len = 8}, "nobody else's"},
		{{.op = TCP_READ, .region = LOG, .sequence = 1, .len = LOG_BYTES + 1},
		 "out of bounds"},
		{{.op = TCP_WRITE, .region = LOG, .sequence = 1, .len = 8, .offset = LOG_BYTES - 7},
		 "out of bounds"},
		{{.op = TCP_WRITE, .region = LOG, .sequence = 1, .len = 8, .offset = UINT64_MAX},
		 "out of bounds"},
		{{.op = TCP_WRITE, .region = LOG, .sequence = 1, .len = UINT64_MAX, .offset = 8},
		 "out of bounds"},
		{{.op = TCP_WRITE, .region = LOG, .sequence = 1, .len = 0}, "out of bounds"},
		{{.op = TCP_WRITE, .region = LOG, .sequence = 1, .len = 8, .zero = 1},
		 "out of bounds"},
		{{.op = TCP_NUDGE, .sequence = 1, .len = 8}, "out of bounds"},
		{{.op = TCP_WRITE, .region = SLOTS, .sequence = 1, .len = 8, .offset = 60},
		 "more than a line"},
		{{.op = TCP_WRITE, .region = LOG, .sequence = 2, .len = 8}, "out of sequence"},
	};
	struct raw raw;

	(void)state;
	raw_start(&raw);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = raw_dial(&raw);
		uint8_t message[sizeof(struct tcp_request) + 64];

		memset(message, 'x', sizeof(message));
		memcpy(message, &cases[i].request, sizeof(cases[i].request));
		raw_send(fd, message, sizeof(message));
		assert_closed(&raw, fd);
		if (!last_line_has(cases[i].about))
			fail_msg("wanted a line about '%s', got '%s'", cases[i].about, last_line);
	}
	for (size_t i = 0; i < LOG_BYTES; i++)
		assert_int_equal(raw.memory[i], 0);
	raw_stop(&raw);
}

static void tcp_an_older_streams_bytes_come_to_nothing(void **state)
{
	struct tcp_request request = {
		.op = TCP_WRITE, .region = LOG, .sequence = 1, .len = 4096, .ballot = MINE};
	uint8_t payload[4096], before[4096];
	struct tcp_reply reply;
	struct raw raw;

	(void)state;
	raw_start(&raw);
	memset(payload, 'o', sizeof(payload));
	for (int round = 0; round < 20; round++) {
		int old = raw_dial(&raw), new;

		request.offset = 0;
		raw_send(old, &request, sizeof(request));
		raw_send(old, payload, 1001);
		/* It is being written, as far as it has come. */
		WAIT_UNTIL(raw.group, raw.memory[999] == 'o');
		new = raw_dial(&raw);
		memcpy(before, raw.memory, sizeof(before));
		/* The rest is late; it may be sent, but is not taken. */
		if (send(old, payload, sizeof(payload) - 1001, MSG_NOSIGNAL) < 0)
			assert_true(errno == EPIPE || errno == ECONNRESET);
		request.offset = 8192;
		raw_send(new, &request, sizeof(request));
		raw_send(new, payload, sizeof(payload));
		raw_read(new, &reply, sizeof(reply));
		assert_int_equal(reply.status, MU_FABRIC_OK);
		assert_memory_equal(raw.memory, before, sizeof(before));
		assert_int_equal(raw.memory[2000], 0);
		assert_closed(&raw, old);
		close(new);
	}
	raw_stop(&raw);
}

/* Somebody is in the middle of a write for as long as he likes; nobody waits for him. */
static void tcp_half_a_write_holds_nobody_up(void **state)
{
	struct tcp_request request = {
		.op = TCP_WRITE, .region = LOG, .sequence = 1, .len = 4096, .ballot = MINE};
	uint8_t payload[4096] = {1};
	struct tcp_reply reply;
	struct raw raw;
	int fd;

	(void)state;
	raw_start(&raw);
	fd = raw_dial(&raw);
	raw_send(fd, &request, sizeof(request));
	raw_send(fd, payload, 100);
	WAIT_UNTIL(raw.group, tcp_is_writing(raw.group->place, 2, RAW_ID));
	assert_int_equal(raw.target->ops->revoke_write(raw.target), 0);
	/* The same ballot again: its second half is of another permission than its first. */
	assert_int_equal(raw.target->ops->grant_write(raw.target, RAW_ID, MINE), 0);
	memset(payload, 2, sizeof(payload));
	raw_send(fd, payload, sizeof(payload) - 100);
	raw_read(fd, &reply, sizeof(reply));
	assert_int_equal(reply.status, MU_FABRIC_DENIED);
	for (size_t i = 100; i < sizeof(payload); i++)
		assert_int_equal(raw.memory[i], 0);
	assert_false(tcp_is_writing(raw.group->place, 2, RAW_ID));
	close(fd);
	raw_stop(&raw);
}

static void tcp_the_wait_descriptor_tells_of_completions(void **state)
{
	struct group *group = group_new();
	struct mu_fabric *fabric = group_open(group, 1);
	struct pollfd poller = {.fd = fabric->ops->wait_fd(fabric, DATA), .events = POLLIN};
	struct mu_completion completion;
	struct link link;
	uint64_t word;

	(void)state;
	group_open(group, 2);
	link = link_up(group, 1, DATA, 2);
	for (int i = 0; i < 100; i++) {
		/* Nothing is under way: it lets one sleep. */
		while (fabric->ops->poll(fabric, DATA, &completion, 1) > 0)
			;
		assert_int_equal(poll(&poller, 1, 0), 0);
		assert_int_equal(fabric->ops->post_read(fabric, DATA, 2, LOG, 0, &word, 8, 7), 0);
		fabric->ops->flush(fabric, DATA);
		assert_int_equal(poll(&poller, 1, (int)(DEADLINE_NS / 1000000)), 1);
		completion = link_completion(&link);
		assert_int_equal(completion.status, MU_FABRIC_OK);
	}
	/* Of an end, too. */
	group_close(group, 2);
	assert_int_equal(poll(&poller, 1, (int)(DEADLINE_NS / 1000000)), 1);
	WAIT_UNTIL(group, link_state(&link) == MU_CONNECTION_DOWN);
	group_free(group);
}

static unsigned open_files(void)
{
	return place_files("/proc/self/fd", "", NULL);
}

static void tcp_a_thousand_losses_leak_nothing(void **state)
{
	struct group *group = group_new();
	struct link link;
	unsigned before = 0;
	uint64_t word;

	(void)state;
	group_open(group, 1);
	group_open(group, 2);
	for (int i = 0; i < 1000; i++) {
		link = link_up(group, 1, i % 2 ? DATA : BACKGROUND, 2);
		assert_int_equal(link_read(&link, LOG, 0, &word, 8), MU_FABRIC_OK);
		link.fabric->ops->disconnect(link.fabric, link.plane, 2);
		if (i == 100)
			before = open_files();
	}
	/* What one side has closed, the other closes in its own time. */
	WAIT_UNTIL(group, open_files() <= before + 2);
	group_free(group);
}

const struct CMUnitTest tcp_tests[] = {
	cmocka_unit_test(tcp_requests_that_make_no_sense_end_the_connection),
	cmocka_unit_test(tcp_an_older_streams_bytes_come_to_nothing),
	cmocka_unit_test(tcp_half_a_write_holds_nobody_up),
	cmocka_unit_test(tcp_the_wait_descriptor_tells_of_completions),
	cmocka_unit_test(tcp_a_thousand_losses_leak_nothing),
	{0},
};
