/*
 * test_fabrics.c - fabric = auto: what members agree on, and what becomes of those
 * that do not. The RDMA of this build is a pretence: the test says who has it.
 */
#include "config.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fabric_verbs.h"
#include "fabrics.h"
#include "log.h"
#include "members.h"

enum { MEMBERS = 3, COMER = 4 };

static bool able[MU_ID_SLOTS];
static bool runs_verbs[MU_ID_SLOTS];

bool fabric_verbs_usable(const struct conf *conf, char *why, size_t why_bytes)
{
	snprintf(why, why_bytes, "there is no RDMA device");
	return able[conf->mu.id];
}

/* Any fabric will do in its place. */
int fabric_verbs_open(struct mu_fabric **out, const struct conf *conf,
		      const struct mu_fabric_config *config, struct mu_peering *peering, char *err,
		      size_t err_bytes)
{
	const struct mu_fabric_tcp_options options = {.directory = conf->memory_dir,
						      .peering = peering};

	runs_verbs[conf->mu.id] = true;
	return mu_fabric_tcp_open(out, config, &options, err, err_bytes);
}

/* ------------------------------------------------------------- the scenery */

/* A replica that opens its fabric on a thread of its own, as they wait for each other. */
struct replica {
	struct member where; /* for its addresses */
	struct conf conf;
	struct book book;
	struct fabrics fabrics;
	bool opened;
	char err[400];
	pthread_t thread;
};

static struct replica replicas[MU_ID_SLOTS];
static char directory[] = "/tmp/test-fabrics-XXXXXX";

static void format(void *ctx, void *regions[MU_REGIONS])
{
	(void)ctx;
	(void)regions;
}

static void take_nothing(void *ctx, unsigned peer, int fd, bool dialled)
{
	(void)ctx;
	(void)peer;
	(void)dialled;
	if (fd >= 0)
		close(fd);
}

static void *open_fabric(void *ctx)
{
	struct replica *r = ctx;
	const struct peering_user user = {take_nothing, NULL};
	const struct mu_fabric_config config = {
		.group_id = GROUP,
		.id = r->conf.mu.id,
		.member_mask = r->conf.mu.member_mask,
		.region_bytes = {4096, 65536, 4096},
		.op_timeout_ns = 1000000000,
		.format = format,
	};

	r->opened = fabrics_open(&r->fabrics, &r->conf, &r->book, &config, &user, r->err,
				 sizeof(r->err));
	return NULL;
}

static void begin(unsigned id)
{
	struct replica *r = &replicas[id];

	memset(r, 0, sizeof(*r));
	member_prepare(&r->where, id, COMER);
	r->conf.fabric = CONF_FABRIC_AUTO;
	r->conf.memory_dir = directory;
	r->conf.mu.id = id;
	r->conf.mu.group_id = GROUP;
	r->book.configuration = mu_configuration(0, 0, 0xe);
	for (unsigned i = 1; i <= COMER; i++) {
		if (i > MEMBERS && i != id)
			continue;
		r->conf.member[i] = r->where.address[i];
		snprintf(r->book.place[i].address, sizeof(r->book.place[i].address), "%s",
			 r->where.address[i]);
		r->conf.mu.member_mask |= 1U << i;
	}
	assert_int_equal(pthread_create(&r->thread, NULL, open_fabric, r), 0);
}

static bool has_opened(unsigned id)
{
	pthread_join(replicas[id].thread, NULL);
	return replicas[id].opened;
}

static void open_all(void)
{
	for (unsigned id = 1; id <= MEMBERS; id++)
		begin(id);
	for (unsigned id = 1; id <= MEMBERS; id++)
		if (!has_opened(id))
			fail_msg("%s", replicas[id].err);
}

static int prepare(void **state)
{
	(void)state;
	members_new_scene();
	memset(able, 0, sizeof(able));
	memset(runs_verbs, 0, sizeof(runs_verbs));
	return mkdtemp(strcpy(directory, "/tmp/test-fabrics-XXXXXX")) ? 0 : -1;
}

static int finish(void **state)
{
	char command[100];

	(void)state;
	end_listening();
	for (unsigned id = 1; id <= COMER; id++)
		fabrics_close(&replicas[id].fabrics);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}

/* ------------------------------------------------------------------- tests */

static void verbs_if_all_can(void **state)
{
	(void)state;
	able[1] = able[2] = able[3] = true;
	open_all();
	for (unsigned id = 1; id <= MEMBERS; id++)
		assert_true(runs_verbs[id]);
}

static void tcp_if_one_cannot(void **state)
{
	(void)state;
	able[1] = able[3] = true;
	open_all();
	for (unsigned id = 1; id <= MEMBERS; id++)
		assert_false(runs_verbs[id]);
}

/* One comes back without its device. */
static void a_member_that_cannot_follow_does_not_start(void **state)
{
	(void)state;
	able[1] = able[2] = able[3] = true;
	open_all();
	fabrics_close(&replicas[3].fabrics);
	able[3] = false;
	begin(3);
	assert_false(has_opened(3));
	assert_non_null(strstr(replicas[3].err, "runs on it"));
	assert_non_null(strstr(replicas[3].err, "there is no RDMA device"));
	/* And with it, it does as the others do. */
	able[3] = true;
	begin(3);
	assert_true(has_opened(3));
	assert_true(replicas[3].fabrics.facts & FACT_CHOSE_VERBS);
}

static bool is_connected(unsigned from, unsigned to)
{
	struct mu_fabric *fabric = replicas[from].fabrics.fabric;

	fabric->ops->connect(fabric, MU_PLANE_DATA, to);
	return fabric->ops->state(fabric, MU_PLANE_DATA, to) == MU_CONNECTION_UP;
}

/* Replica 1 was parted from the others while they chose. */
static void a_minority_that_chose_otherwise_is_told_so(void **state)
{
	char why[300];

	(void)state;
	open_all();
	WAIT_UNTIL(is_connected(2, 3) && is_connected(3, 2) && is_connected(1, 2));
	listen_to_log();
	replicas[1].fabrics.facts = FACT_CHOSE_VERBS;
	peering_set_facts(replicas[1].fabrics.peering, FACT_CHOSE_VERBS);
	/* Until it has heard from both it is one of two. */
	WAIT_UNTIL(fabrics_outvoted(&replicas[1].fabrics, why, sizeof(why)) &&
		   strstr(why, "2 of 3 members run on another fabric than verbs"));
	/* Both ends say so. */
	WAIT_UNTIL(lines_with("replica 1", "it runs on verbs, and here is tcp") == 2);
	WAIT_UNTIL(lines_with("replica 2", "it runs on tcp, and here is verbs") == 1);
	WAIT_UNTIL(lines_with("replica 3", "it runs on tcp, and here is verbs") == 1);
	for (unsigned id = 2; id <= MEMBERS; id++)
		assert_false(fabrics_outvoted(&replicas[id].fabrics, why, sizeof(why)));
	end_listening();
	/* Started again it does as they do. */
	fabrics_close(&replicas[1].fabrics);
	begin(1);
	assert_true(has_opened(1));
	assert_int_equal(replicas[1].fabrics.facts, FACT_CHOSE_TCP);
	WAIT_UNTIL(is_connected(1, 2) && is_connected(2, 1));
}

/* They chose apart, and then 3, who could have told which are more, is away. */
static void of_two_that_chose_otherwise_one_gives_way(void **state)
{
	char why[300];

	(void)state;
	open_all();
	WAIT_UNTIL(is_connected(1, 2) && is_connected(2, 1) && is_connected(2, 3));
	for (unsigned id = 1; id <= MEMBERS; id += 2) {
		replicas[id].fabrics.facts = FACT_CHOSE_VERBS;
		peering_set_facts(replicas[id].fabrics.peering, FACT_CHOSE_VERBS);
	}
	WAIT_UNTIL(fabrics_outvoted(&replicas[2].fabrics, why, sizeof(why)));
	WAIT_UNTIL(!fabrics_outvoted(&replicas[1].fabrics, why, sizeof(why)));
	fabrics_close(&replicas[3].fabrics);
	/* Not both: they would choose apart again. */
	WAIT_UNTIL(fabrics_outvoted(&replicas[1].fabrics, why, sizeof(why)));
	assert_non_null(strstr(why, "1 run on tcp, and 1 on verbs"));
	WAIT_UNTIL(!fabrics_outvoted(&replicas[2].fabrics, why, sizeof(why)));
	fabrics_close(&replicas[1].fabrics);
	begin(1);
	assert_true(has_opened(1));
	assert_int_equal(replicas[1].fabrics.facts, FACT_CHOSE_TCP);
	WAIT_UNTIL(is_connected(1, 2) && is_connected(2, 1));
	for (unsigned id = 1; id <= 2; id++)
		assert_false(fabrics_outvoted(&replicas[id].fabrics, why, sizeof(why)));
}

/* It is none of them yet, so its device is no matter, and neither is it counted. */
static void who_joins_follows_the_members(void **state)
{
	char why[300];

	(void)state;
	able[COMER] = true;
	open_all();
	begin(COMER);
	assert_true(has_opened(COMER));
	assert_int_equal(replicas[COMER].fabrics.facts, FACT_HAS_VERBS | FACT_CHOSE_TCP);
	WAIT_UNTIL(peering_peer(replicas[1].fabrics.peering, COMER).facts & FACT_CHOSE_TCP);
	replicas[1].fabrics.facts = FACT_CHOSE_VERBS;
	peering_set_facts(replicas[1].fabrics.peering, FACT_CHOSE_VERBS);
	WAIT_UNTIL(fabrics_outvoted(&replicas[1].fabrics, why, sizeof(why)) &&
		   strstr(why, "2 of 3 members"));
}

static void who_joins_and_cannot_follow_does_not_start(void **state)
{
	(void)state;
	able[1] = able[2] = able[3] = true;
	open_all();
	begin(COMER);
	assert_false(has_opened(COMER));
	assert_non_null(strstr(replicas[COMER].err, "runs on it"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, prepare, finish)
	static const struct CMUnitTest tests[] = {
		TEST(verbs_if_all_can),
		TEST(tcp_if_one_cannot),
		TEST(a_member_that_cannot_follow_does_not_start),
		TEST(a_minority_that_chose_otherwise_is_told_so),
		TEST(of_two_that_chose_otherwise_one_gives_way),
		TEST(who_joins_follows_the_members),
		TEST(who_joins_and_cannot_follow_does_not_start),
	};

	signal(SIGPIPE, SIG_IGN);
	mp_log_init(MP_LOG_INFO, 0);
	return cmocka_run_group_tests_name("fabrics", tests, NULL, NULL);
}
