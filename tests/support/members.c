/* members.c - see members.h. */
#include "config.h"

#include "members.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PORT 7400

static const uint8_t secret[] = "open sesame, said he, and stood there";

static void heard_channel(void *fabric, unsigned peer, bool up)
{
	struct heard *heard = fabric;

	pthread_mutex_lock(&heard->lock);
	assert(heard->up[peer] != up);
	heard->up[peer] = up;
	*(up ? &heard->ups : &heard->downs) += 1;
	pthread_mutex_unlock(&heard->lock);
}

static void heard_message(void *fabric, unsigned peer, const void *message, size_t len)
{
	struct heard *heard = fabric;
	uint32_t number;

	(void)peer;
	pthread_mutex_lock(&heard->lock);
	if (len >= sizeof(number)) {
		memcpy(&number, message, sizeof(number));
		heard->in_order = heard->in_order && number == heard->messages;
	}
	heard->messages++;
	memcpy(heard->last, message, len);
	heard->last_bytes = len;
	pthread_mutex_unlock(&heard->lock);
}

static void heard_stream(void *fabric, enum mu_plane plane, unsigned peer, int fd, bool dialled)
{
	struct heard *heard = fabric;

	(void)peer;
	pthread_mutex_lock(&heard->lock);
	if (heard->stream[dialled][plane] >= 0)
		close(heard->stream[dialled][plane]);
	heard->stream[dialled][plane] = fd;
	pthread_mutex_unlock(&heard->lock);
}

static void heard_failure(void *fabric, enum mu_plane plane, unsigned peer)
{
	struct heard *heard = fabric;

	(void)plane;
	(void)peer;
	pthread_mutex_lock(&heard->lock);
	heard->failures++;
	pthread_mutex_unlock(&heard->lock);
}

static void heard_replaced(void *fabric, unsigned peer)
{
	struct heard *heard = fabric;

	(void)peer;
	pthread_mutex_lock(&heard->lock);
	heard->replaced++;
	pthread_mutex_unlock(&heard->lock);
}

const struct mu_peering_events members_events = {
	.channel = heard_channel,
	.message = heard_message,
	.stream = heard_stream,
	.stream_failed = heard_failure,
	.replaced = heard_replaced,
};

/* 127.x.y.id, x and y of this test of this process. */
static unsigned scene;

void members_new_scene(void)
{
	scene++;
}

void member_prepare(struct member *m, unsigned id, unsigned members)
{
	unsigned place = (unsigned)getpid() * 97 + scene;

	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->heard.lock, NULL);
	m->heard.in_order = true;
	memset(m->heard.stream, 0xff, sizeof(m->heard.stream));
	peering_options_init(&m->options);
	m->options.id = id;
	m->options.group_id = GROUP;
	m->options.secret = secret;
	m->options.secret_bytes = sizeof(secret);
	for (unsigned i = 1; i <= members; i++) {
		snprintf(m->address[i], sizeof(m->address[i]), "127.%u.%u.%u:%d",
			 1 + place / 250 % 250, 1 + place % 250, i, PORT);
		m->options.address[i] = m->address[i];
	}
}

void member_start(struct member *m)
{
	char err[200] = "";

	m->peering = peering_open(&m->options, err, sizeof(err));
	if (!m->peering)
		fail_msg("%s", err);
	m->base = peering_base(m->peering);
	m->base->ops->attach(m->base, &members_events, &m->heard);
	assert_int_equal(peering_start(m->peering), 0);
}

void member_stop(struct member *m)
{
	if (!m->peering)
		return;
	m->base->ops->attach(m->base, NULL, NULL);
	peering_close(m->peering);
	m->peering = NULL;
	for (int dialled = 0; dialled < 2; dialled++)
		for (int plane = 0; plane < MU_PLANES; plane++) {
			if (m->heard.stream[dialled][plane] >= 0)
				close(m->heard.stream[dialled][plane]);
			m->heard.stream[dialled][plane] = -1;
		}
	memset(m->heard.up, 0, sizeof(m->heard.up));
}

bool sees(struct member *m, unsigned peer)
{
	return UNDER(m->heard, m->heard.up[peer]);
}

void pair_start(struct member pair[2])
{
	scene++;
	for (unsigned i = 0; i < 2; i++) {
		member_prepare(&pair[i], i + 1, 2);
		member_start(&pair[i]);
	}
	WAIT_UNTIL(sees(&pair[0], 2) && sees(&pair[1], 1));
}

void pair_stop(struct member pair[2])
{
	member_stop(&pair[0]);
	member_stop(&pair[1]);
}

/* -------------------------------------------------------- what the log says */

static FILE *said; /* NULL: nobody listens */
static int stderr_kept;

/* Written through a description of its own: reading moves the place of another. */
void listen_to_log(void)
{
	char path[64];
	int fd;

	fflush(stderr);
	said = tmpfile();
	assert_non_null(said);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fileno(said));
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_true(fd >= 0);
	stderr_kept = dup(2);
	dup2(fd, 2);
	close(fd);
}

unsigned lines_with(const char *one, const char *other)
{
	char line[1000];
	unsigned count = 0;

	rewind(said);
	while (fgets(line, sizeof(line), said))
		count += strstr(line, one) && strstr(line, other);
	return count;
}

void end_listening(void)
{
	char line[1000];

	if (!said)
		return;
	dup2(stderr_kept, 2);
	close(stderr_kept);
	rewind(said);
	while (fgets(line, sizeof(line), said))
		fputs(line, stderr);
	fclose(said);
	said = NULL;
}

unsigned open_files(void)
{
	DIR *list = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(list);
	while (readdir(list))
		count++;
	closedir(list);
	return count;
}
