/* test_tcp_slow.c - the tcp fabric over a link that is slow: the other end of it is the test's. */
#include "config.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "tcp_raw.h"

#define SLOW_TIMEOUT_NS 300000000u

/* Replica 1, and its connection to the member without a fabric, at whose end we are. */
static struct mu_fabric *slow_start(struct raw *raw, int *fd)
{
	struct mu_fabric_config config = group_config(raw->group, 1);
	const struct tcp_welcome welcome = {.magic = TCP_MAGIC,
					    .background_bytes = SLOTS_BYTES,
					    .replication_bytes = LOG_BYTES};
	struct mu_fabric *fabric;
	struct link link = {raw->group, NULL, DATA, RAW_ID};
	char err[256];

	config.op_timeout_ns = SLOW_TIMEOUT_NS;
	assert_int_equal(
		fabric_under_test->open(raw->group->place, &config, &fabric, err, sizeof(err)), 0);
	link.fabric = raw->group->replica[1] = fabric;
	do {
		raw->dialled_by_peer = -1;
		WAIT_UNTIL(raw->group, (fabric->ops->connect(fabric, DATA, RAW_ID),
					raw->dialled_by_peer != -1));
		*fd = raw->dialled_by_peer;
		raw_send(*fd, &welcome, sizeof(welcome));
		/* It may have waited for that for too long, on a busy machine. */
		WAIT_UNTIL(raw->group, link_state(&link) != MU_CONNECTION_CONNECTING);
	} while (link_state(&link) != MU_CONNECTION_UP);
	return fabric;
}

/* Nearly as long as nothing may arrive; nor does the fabric look whether anything has. */
static void slow_pause(void)
{
	uint64_t since_ns = clock_ns();

	while (clock_ns() - since_ns < SLOW_TIMEOUT_NS * 3 / 4)
		sched_yield();
}

/* Take the next request, its bytes with it, and say that it was done. */
static void slow_answer(int fd, struct tcp_request *request)
{
	struct tcp_reply reply = {.status = MU_FABRIC_OK};
	uint8_t payload[64];

	raw_read(fd, request, sizeof(*request));
	assert_true(request->op != TCP_WRITE || request->len == sizeof(payload));
	if (request->op == TCP_WRITE)
		raw_read(fd, payload, sizeof(payload));
	reply.op = request->op;
	reply.sequence = request->sequence;
	raw_send(fd, &reply, sizeof(reply));
}

static bool slow_completed(struct mu_fabric *fabric, uint64_t cookie)
{
	struct mu_completion completion;

	if (fabric->ops->poll(fabric, DATA, &completion, 1) == 0)
		return false;
	assert_int_equal(completion.status, MU_FABRIC_OK);
	assert_int_equal(completion.cookie, cookie);
	return true;
}

/* F7: as long as one thing after the other arrives, a peer is there, however slow its link. */
static void tcp_a_slow_link_is_no_lost_peer(void **state)
{
	enum { PIECES = 4, PIECE_BYTES = 1024 };
	uint8_t bytes[PIECES * PIECE_BYTES], got[sizeof(bytes)] = {0};
	struct tcp_request request;
	struct mu_fabric *fabric;
	struct raw raw;
	int fd;

	(void)state;
	raw_start(&raw);
	fabric = slow_start(&raw, &fd);
	memset(bytes, 's', sizeof(bytes));
	assert_int_equal(fabric->ops->post_read(fabric, DATA, RAW_ID, LOG, 0, got, sizeof(got), 7),
			 0);
	fabric->ops->flush(fabric, DATA);
	slow_answer(fd, &request);
	for (size_t end = PIECE_BYTES; end < sizeof(got); end += PIECE_BYTES) {
		slow_pause();
		raw_send(fd, bytes, PIECE_BYTES);
		WAIT_UNTIL(raw.group, !slow_completed(fabric, 7) && got[end - 1] == 's');
	}
	slow_pause();
	raw_send(fd, bytes, PIECE_BYTES);
	WAIT_UNTIL(raw.group, slow_completed(fabric, 7));
	for (uint64_t cookie = 1; cookie <= 4; cookie++)
		assert_int_equal(fabric->ops->post_write(fabric, DATA, RAW_ID, LOG, 0, bytes, 64,
							 BALLOT(1, 1), cookie),
				 0);
	fabric->ops->flush(fabric, DATA);
	for (uint64_t cookie = 1; cookie <= 4; cookie++) {
		slow_pause();
		do
			slow_answer(fd, &request);
		while (request.op == TCP_NUDGE);
		WAIT_UNTIL(raw.group, slow_completed(fabric, cookie));
	}
	close(fd);
	raw_stop(&raw);
}

const struct CMUnitTest tcp_slow_tests[] = {
	cmocka_unit_test(tcp_a_slow_link_is_no_lost_peer),
	{0},
};
