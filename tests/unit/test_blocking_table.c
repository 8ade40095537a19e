/* test_blocking_table.c - who waits for which keys, up to as many as may. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "blocking_table.h"
#include "state.h"

enum { KEYS = 1024, WAITERS = (1 << 18) / KEYS };

/* BLPOP key-0 ... key-1023 0, again and again */
static struct mp_slice argv[KEYS + 2];
static char names[KEYS][16];

static struct resp_request request_of(int keys)
{
	for (int i = 0; i < keys; i++) {
		snprintf(names[i], sizeof(names[i]), "key-%d", i);
		argv[1 + i] = mp_slice_of(names[i]);
	}
	argv[0] = mp_slice_of("BLPOP");
	argv[1 + keys] = mp_slice_of("0");
	return (struct resp_request){.argc = keys + 2, .argv = argv};
}

static struct mp_waiter *add(struct mp_proxy *proxy, struct mp_request *r, int keys)
{
	const struct mp_blocking_form form = {.kind = MP_WAIT_LIST, .first_key = 1, .keys = keys};
	struct resp_request request = request_of(keys);

	r->origin.sequence++;
	return mp_waiter_add(proxy, r, &form, &request);
}

static void test_bound(void **state)
{
	struct mp_proxy *proxy = calloc(1, sizeof(*proxy));
	struct mp_waiter *waiter[WAITERS], *last;
	struct mp_request r = {0};

	(void)state;
	assert_non_null(proxy);
	mp_blocking_init(&proxy->blocking);
	for (int i = 0; i < WAITERS; i++)
		assert_non_null(waiter[i] = add(proxy, &r, KEYS));
	assert_null(add(proxy, &r, 1));
	/* Who has left makes room for as much. */
	mp_waiter_free(proxy, waiter[0]);
	assert_non_null(last = add(proxy, &r, KEYS));
	assert_null(add(proxy, &r, 1));
	mp_waiter_free(proxy, last);
	for (int i = 1; i < WAITERS; i++)
		mp_waiter_free(proxy, waiter[i]);
	assert_null(mp_wait_find_key(&proxy->blocking, 0, mp_slice_of("key-0")));
	mp_blocking_close(&proxy->blocking);
	free(proxy);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
