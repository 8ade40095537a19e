/* test_link_greeting.c - replicas whose links are of different versions refuse each other. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "proxy_world.h"

static int make(void **state)
{
	struct world_options options = {0};

	(void)state;
	world_make(&options);
	world_elect(1, true);
	return 0;
}

/* Greet the leader as replica 3; returns the kind of its answer, whose body is put there. */
static enum mp_frame_type greet(uint32_t version, char *body, size_t bytes)
{
	struct {
		struct mp_frame frame;
		struct mp_frame_hello hello;
	} mine = {{.bytes = sizeof(mine), .type = MP_FRAME_HELLO},
		  {.magic = MP_FRAME_MAGIC,
		   .version = version,
		   .replica = 3,
		   .purpose = MP_LINK_RELAY,
		   .group_id = 7,
		   .nonce = 99}};
	struct mp_frame answer;
	int c = client_connect_peer(1);

	client_send_bytes(c, &mine, sizeof(mine));
	world_settle();
	assert_int_equal(recv(c, &answer, sizeof(answer), 0), sizeof(answer));
	assert_in_range(answer.bytes, sizeof(answer), sizeof(answer) + bytes - 1);
	memset(body, 0, bytes);
	assert_int_equal(recv(c, body, answer.bytes - sizeof(answer), 0),
			 answer.bytes - sizeof(answer));
	if (answer.type == MP_FRAME_REFUSED)
		client_expect_end(c);
	client_close(c);
	return (enum mp_frame_type)answer.type;
}

static void another_version_is_refused_and_told_why(void **state)
{
	char said[200];

	(void)state;
	for (int other = -1; other <= 1; other += 2) {
		assert_int_equal(greet(MP_FRAME_VERSION + other, said, sizeof(said)),
				 MP_FRAME_REFUSED);
		assert_string_equal(said, "another version of the link's format");
	}
	assert_int_equal(greet(MP_FRAME_VERSION, said, sizeof(said)), MP_FRAME_HELLO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(another_version_is_refused_and_told_why, make,
						world_unmake),
	};

	return cmocka_run_group_tests_name("greeting of links", tests, NULL, NULL);
}
