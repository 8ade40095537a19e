/* test_book.c - what is known of a group's replicas is kept, and a damaged file is seen. */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "book.h"

enum { GROUP = 77 };

static char directory[] = "/tmp/muproxy-book-XXXXXX";
static char path[64];

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/members", directory);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(directory);
}

static void put(struct book *book, unsigned id, uint64_t stamp, const char *address, bool is_news)
{
	struct book_place place = {.stamp = stamp};

	snprintf(place.address, sizeof(place.address), "%s", address);
	assert_int_equal(book_take_place(book, id, &place), is_news);
}

static void the_later_word_is_right(void **state)
{
	struct book book = {0};

	(void)state;
	put(&book, 2, 5, "b:1", true);
	put(&book, 2, 5, "b:2", false);
	put(&book, 2, 4, "b:3", false);
	put(&book, 2, 6, "b:4", true);
	put(&book, 0, 9, "a:1", false);
	put(&book, MU_MAX_REPLICAS + 1, 9, "a:1", false);
	put(&book, 3, 9, "", false);
	assert_string_equal(book.place[2].address, "b:4");
	assert_int_equal(book_known(&book), 1 << 2);
	assert_true(book_take_configuration(&book, mu_configuration(7, 1 << 2, 1 << 3)));
	assert_false(book_take_configuration(&book, mu_configuration(6, 0, 1 << 2)));
	assert_true(book_is_removed(&book, 2));
	assert_false(book_is_removed(&book, 3));
}

static void fill(struct book *book)
{
	char longest[BOOK_ADDRESS_BYTES];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	*book = (struct book){.configuration = mu_configuration(9, 1 << 2, 1 << 1 | 1 << 7)};
	put(book, 1, UINT64_MAX, "10.0.0.1:7400", true);
	put(book, 7, 1, longest, true);
}

static void it_is_found_again(void **state)
{
	struct book book, again;
	char err[400] = "";

	(void)state;
	fill(&book);
	assert_int_equal(book_load(&again, path, GROUP, err, sizeof(err)), 0);
	assert_true(book_store(&book, path, GROUP, err, sizeof(err)));
	assert_int_equal(book_load(&again, path, GROUP, err, sizeof(err)), 1);
	assert_memory_equal(&book, &again, sizeof(book));
	assert_int_equal(book_load(&again, path, GROUP + 1, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "of another group"));
	assert_false(book_store(&book, "/nowhere/members", GROUP, err, sizeof(err)));
	assert_non_null(strstr(err, "/nowhere/members: No such file"));
}

static void write_text(const char *text, size_t bytes)
{
	FILE *out = fopen(path, "w");

	assert_non_null(out);
	assert_int_equal(fwrite(text, 1, bytes, out), bytes);
	assert_int_equal(fclose(out), 0);
}

/* Wherever it was cut, and whatever byte of its words has changed. */
static void a_damaged_file_is_none(void **state)
{
	struct book book, again;
	char text[2000], err[400];
	size_t bytes;
	FILE *in;

	(void)state;
	fill(&book);
	assert_true(book_store(&book, path, GROUP, err, sizeof(err)));
	in = fopen(path, "r");
	assert_non_null(in);
	bytes = fread(text, 1, sizeof(text), in);
	fclose(in);
	for (size_t n = 0; n + 1 < bytes; n++) {
		write_text(text, n);
		assert_int_equal(book_load(&again, path, GROUP, err, sizeof(err)), -1);
	}
	write_text("muproxy-members 2\n", 18);
	assert_int_equal(book_load(&again, path, GROUP, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "another version of its format: 2 there, 1 here"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_later_word_is_right),
		cmocka_unit_test(it_is_found_again),
		cmocka_unit_test(a_damaged_file_is_none),
	};

	return cmocka_run_group_tests_name("book", tests, make_dir, remove_dir);
}
