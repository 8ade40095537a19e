/* tcp_fixture.c - the tcp fabric in the suite. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
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
#include "tcp_fixture.h"

#define PORT 7400

/*
 * Every replica of every group has an address of its own: on one host 127.x.y.id;
 * on several, which between-hosts makes, 10.id.x.y, in the namespace HOSTS-id.
 */
#define HOSTS "CONFORMANCE_HOSTS"
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

bool tcp_last_line_has(const char *words)
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

static void enter(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(setns(fd, CLONE_NEWNET), 0);
	close(fd);
}

char *tcp_enter_host(unsigned id)
{
	const char *hosts = getenv(HOSTS);
	char path[64], *home = NULL;

	if (hosts != NULL) {
		/* A descriptor would be one more than the tests that count them know of. */
		assert_true(asprintf(&home, "/run/netns/%s-home", hosts) > 0);
		snprintf(path, sizeof(path), "/run/netns/%s-%u", hosts, id);
		enter(path);
	}
	return home;
}

void tcp_leave_host(char *home)
{
	if (home != NULL)
		enter(home);
	free(home);
}

static void put_address(const struct tcp_place *place, unsigned id, char *out, size_t bytes)
{
	unsigned x = 1 + place->number / 250 % 250, y = 1 + place->number % 250;

	if (getenv(HOSTS) != NULL)
		snprintf(out, bytes, "10.%u.%u.%u:%d", id, x, y, PORT);
	else
		snprintf(out, bytes, "127.%u.%u.%u:%d", x, y, id, PORT);
}

struct peering *tcp_join(const void *ctx, const struct mu_fabric_config *config, char *err,
			 size_t err_bytes)
{
	const struct tcp_place *place = ctx;
	char address[MU_ID_SLOTS][32];
	struct peering_options options;

	peering_options_init(&options);
	options.id = config->id;
	options.group_id = config->group_id;
	options.configuration = mu_configuration(0, 0, FOUNDERS);
	options.admits = config->member_mask != FOUNDERS;
	/* A large write is not in the sockets as a whole, so its writer can be stopped in it. */
	options.stream_buffer_bytes = 64 << 10;
	for (unsigned id = 1; id < MU_ID_SLOTS; id++) {
		if (id != config->id && !(FOUNDERS & (1U << id)))
			continue;
		put_address(place, id, address[id], sizeof(address[id]));
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

static int open_here(const struct tcp_place *place, const struct mu_fabric_config *config,
		     struct mu_fabric **out, char *err, size_t err_bytes)
{
	struct mu_fabric_tcp_options options = {.directory = place->directory, .log = take_line};
	struct joined where = {0};

	close_inherited();
	where.peering = tcp_join(place, config, err, err_bytes);
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

static int tcp_open_replica(void *ctx, const struct mu_fabric_config *config,
			    struct mu_fabric **out, char *err, size_t err_bytes)
{
	char *home = tcp_enter_host(config->id);
	int rc = open_here(ctx, config, out, err, err_bytes);

	tcp_leave_host(home);
	return rc;
}

bool tcp_is_writing(void *ctx, unsigned target, unsigned writer)
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
