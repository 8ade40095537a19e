/* users.c - see users.h. */
#include "users.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 64 << 10 };

struct mp_users {
	size_t bytes;
	char text[]; /* the file's, which is well-formed */
};

struct user {
	struct mp_slice name, password;
};

/* The line at *at, which moves behind it. False: it is not user:password. */
static bool next_user(const char **at, const char *end, struct user *user)
{
	const char *start = *at, *lf = memchr(start, '\n', (size_t)(end - start));
	const char *stop = lf ? lf : end, *colon;

	*at = lf ? lf + 1 : end;
	if (stop > start && stop[-1] == '\r')
		stop--;
	colon = memchr(start, ':', (size_t)(stop - start));
	if (!colon || colon == start || colon + 1 == stop)
		return false;
	user->name = (struct mp_slice){start, (size_t)(colon - start)};
	user->password = (struct mp_slice){colon + 1, (size_t)(stop - colon - 1)};
	return true;
}

static bool check_lines(const struct mp_users *users, const char *path, char *err, size_t err_bytes)
{
	const char *at = users->text, *end = at + users->bytes;
	struct user user;

	if (at == end)
		snprintf(err, err_bytes, "%s: nobody is in it", path);
	for (int line = 1; at < end; line++) {
		if (next_user(&at, end, &user))
			continue;
		snprintf(err, err_bytes, "%s: line %d is not user:password", path, line);
		return false;
	}
	return users->bytes > 0;
}

static bool read_whole(FILE *stream, struct mp_users *users, const char *path, char *err,
		       size_t err_bytes)
{
	users->bytes = fread(users->text, 1, MAX_FILE_BYTES + 1, stream);
	if (ferror(stream)) {
		snprintf(err, err_bytes, "%s: %s", path, strerror(errno));
		return false;
	}
	if (users->bytes > MAX_FILE_BYTES) {
		snprintf(err, err_bytes, "%s: more than %d bytes", path, MAX_FILE_BYTES);
		return false;
	}
	return check_lines(users, path, err, err_bytes);
}

struct mp_users *mp_users_load(const char *path, char *err, size_t err_bytes)
{
	struct mp_users *users = malloc(sizeof(*users) + MAX_FILE_BYTES + 1);
	FILE *stream = fopen(path, "re");
	bool ok = false;

	if (!stream)
		snprintf(err, err_bytes, "%s: %s", path, strerror(errno));
	else if (!users)
		snprintf(err, err_bytes, "%s: out of memory", path);
	else
		ok = read_whole(stream, users, path, err, err_bytes);
	if (stream)
		fclose(stream);
	if (ok)
		return users;
	mp_users_free(users);
	return NULL;
}

void mp_users_free(struct mp_users *users)
{
	free(users);
}

/* In a time that tells nothing of what they have in common, but for their lengths. */
static bool equal(struct mp_slice a, struct mp_slice b)
{
	uint8_t differ = a.len != b.len;

	for (size_t i = 0; i < a.len && i < b.len; i++)
		differ |= (uint8_t)(a.data[i] ^ b.data[i]);
	return !differ;
}

bool mp_users_know(const struct mp_users *users, struct mp_slice name, struct mp_slice password,
		   struct mp_slice *who)
{
	const char *at = users->text, *end = at + users->bytes;
	struct user user;
	bool known = false;

	while (at < end && next_user(&at, end, &user)) {
		bool same_name = equal(user.name, name), same_password;

		same_password = equal(user.password, password);
		known |= same_name & same_password;
		if (who && same_name & same_password)
			*who = user.name;
	}
	return known;
}

bool mp_users_have(const struct mp_users *users, struct mp_slice name)
{
	const char *at = users->text, *end = at + users->bytes;
	struct user user;

	while (at < end && next_user(&at, end, &user))
		if (mp_slice_equal(user.name, name))
			return true;
	return false;
}
