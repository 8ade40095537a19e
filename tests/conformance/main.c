/*
 * main.c - run the suite over every fabric of this build; with arguments, over
 * those named. CONFORMANCE_FILTER='f4_*' picks tests. Built with MU_FAULTS it is
 * the self-check instead: revocation is broken on purpose, and the tests must
 * notice.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conformance.h"
#ifdef HAVE_VERBS
#include "verbs_fixture.h"
#endif

#define MAX_TESTS 100

static const struct conformance_fabric *const fabrics[] = {
	&shm_fixture,         &tcp_fixture,
#ifdef HAVE_VERBS
	&verbs_fixture,
#endif
	&sim_passive_fixture, &sim_bound_fixture,
};

struct suite {
	struct CMUnitTest tests[MAX_TESTS];
	size_t count;
};

static bool is_left_out(const char *test)
{
	const char *const *at = fabric_under_test->left_out;

	for (; at != NULL && *at != NULL; at += 2) {
		if (strcmp(at[0], test) != 0)
			continue;
		printf("left out over %s: %s: %s\n", fabric_under_test->name, at[0], at[1]);
		return true;
	}
	return false;
}

static void add(struct suite *suite, const struct CMUnitTest *tests)
{
	for (; tests->name != NULL; tests++) {
		if (is_left_out(tests->name))
			continue;
		assert_in_range(suite->count, 0, MAX_TESTS - 1);
		suite->tests[suite->count++] = *tests;
	}
}

static int run(const struct conformance_fabric *fabric)
{
	struct suite suite = {.count = 0};

	fabric_under_test = fabric;
#ifdef MU_FAULTS
#ifdef HAVE_VERBS
	if (fabric == &verbs_fixture)
		add(&suite, verbs_stream_self_check_tests);
	else
#endif
		if (fabric->concurrent)
		add(&suite, self_check_tests);
	if (fabric->advance != NULL)
		add(&suite, stepped_self_check_tests);
#else
	add(&suite, order_tests);
	add(&suite, permission_tests);
	add(&suite, revocation_tests);
	add(&suite, stepped_tests);
	add(&suite, memory_tests);
	add(&suite, newcomer_tests);
	if (fabric == &shm_fixture)
		add(&suite, shm_tests);
	if (fabric == &tcp_fixture) {
		add(&suite, tcp_tests);
		add(&suite, tcp_slow_tests);
	}
#ifdef HAVE_VERBS
	if (fabric == &verbs_fixture) {
		add(&suite, verbs_tests);
		add(&suite, verbs_failure_tests);
		add(&suite, verbs_stream_tests);
	}
#endif
#endif
	if (getenv("CONFORMANCE_FILTER") != NULL)
		cmocka_set_test_filter(getenv("CONFORMANCE_FILTER"));
	printf("fabric %s\n", fabric->name);
	fflush(stdout);
	return _cmocka_run_group_tests(fabric->name, suite.tests, suite.count, NULL, NULL);
}

/* Left out, with a word about it, unless it was asked for by name. */
static bool is_available(const struct conformance_fabric *fabric)
{
	char why[256];

	if (fabric->is_available == NULL || fabric->is_available(why, sizeof(why)))
		return true;
	printf("fabric %s is left out: %s\n", fabric->name, why);
	return false;
}

static bool is_wanted(const struct conformance_fabric *fabric, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], fabric->name) == 0)
			return true;
	return argc <= 1;
}

int main(int argc, char **argv)
{
	unsigned ran = 0;
	int failed = 0;

	for (size_t i = 0; i < sizeof(fabrics) / sizeof(fabrics[0]); i++) {
		if (!is_wanted(fabrics[i], argc, argv) || (argc <= 1 && !is_available(fabrics[i])))
			continue;
		ran++;
		failed += run(fabrics[i]) != 0;
	}
	if (ran == 0)
		fprintf(stderr, "%s: no such fabric in this build\n", argv[0]);
	return ran == 0 || failed > 0;
}
