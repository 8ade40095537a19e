/* servers.c - see servers.h. */
#include "config.h"

#include "servers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ARGS = 64, REPLY_BYTES = 64 << 10, RETRY_MS = 2 };

static void die(const char *what, const char *about)
{
	fprintf(stderr, "test support: %s %s: %s\n", what, about, strerror(errno));
	abort();
}

uint64_t test_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void test_dir_make(char dir[TEST_DIR_BYTES])
{
	snprintf(dir, TEST_DIR_BYTES, "/tmp/muproxy-test-XXXXXX");
	if (!mkdtemp(dir))
		die("mkdtemp", dir);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *place)
{
	(void)status;
	(void)type;
	(void)place;
	return remove(path);
}

void test_dir_remove(const char *dir)
{
	if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
		die("remove", dir);
}

/* Splits text at spaces into argv from argc on; '' is an empty argument. Modifies text. */
static int add_words(char **argv, int argc, char *text)
{
	char *save = NULL, *word;

	for (word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		if (argc >= MAX_ARGS - 1)
			die("too many options", text);
		argv[argc++] = strcmp(word, "''") == 0 ? word + 2 : word;
	}
	argv[argc] = NULL;
	return argc;
}

/* Runs argv in dir, its output appended to DIR/output. */
static pid_t spawn(char **argv, const char *dir)
{
	pid_t parent = getpid(), pid = fork();
	int out;

	if (pid < 0)
		die("fork", argv[0]);
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || chdir(dir) < 0)
		_exit(126);
	out = open("output", O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (out >= 0) {
		dup2(out, STDOUT_FILENO);
		dup2(out, STDERR_FILENO);
	}
	execvp(argv[0], argv);
	_exit(127);
}

int test_connect(const struct test_server *server)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket", server->path);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", server->path);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool ends_with(const char *text, size_t len, const char *end)
{
	size_t end_len = strlen(end);

	return len >= end_len && memcmp(text + len - end_len, end, end_len) == 0;
}

/* False: no connection, or it ended before the reply did. */
static bool exchange(const struct test_server *server, const char *request, const char *until,
		     char *reply)
{
	uint64_t deadline_ms = test_now_ms() + TEST_DEADLINE_MS;
	int fd = test_connect(server);
	size_t len = 0, sent = strlen(request);
	ssize_t n = 1;

	if (fd < 0)
		return false;
	if (send(fd, request, sent, MSG_NOSIGNAL) != (ssize_t)sent)
		n = -1;
	while (n > 0 && !ends_with(reply, len, until) && len < REPLY_BYTES - 1) {
		struct pollfd ready = {.fd = fd, .events = POLLIN};

		if (test_now_ms() > deadline_ms || poll(&ready, 1, TEST_DEADLINE_MS) != 1)
			break;
		n = recv(fd, reply + len, 1, 0);
		len += n > 0 ? 1 : 0;
	}
	reply[len] = '\0';
	close(fd);
	return ends_with(reply, len, until);
}

const char *test_exchange(const struct test_server *server, const char *request, const char *until)
{
	static char reply[REPLY_BYTES];

	reply[0] = '\0';
	if (!exchange(server, request, until, reply)) {
		fprintf(stderr, "test support: %s: no whole reply to '%s', only '%s'\n",
			server->path, request, reply);
		abort();
	}
	return reply;
}

/*
 * Until the server answers: its socket may not be there yet, or it may still
 * be loading. A process that has already ended will never answer.
 */
static void wait_until_it_answers(struct test_server *server, const char *request,
				  const char *not_yet, const char *name)
{
	static char reply[REPLY_BYTES];
	uint64_t deadline_ms = test_now_ms() + TEST_DEADLINE_MS;

	for (;;) {
		if (exchange(server, request, "\n", reply) && strncmp(reply, not_yet, 8) != 0)
			return;
		if (waitpid(server->pid, NULL, WNOHANG) == server->pid) {
			fprintf(stderr, "test support: %s ended at once; see 'output' beside %s\n",
				name, server->path);
			abort();
		}
		if (test_now_ms() > deadline_ms)
			die("no answer from", name);
		poll(NULL, 0, RETRY_MS);
	}
}

static void set_path(struct test_server *server, const char *dir, const char *file)
{
	snprintf(server->path, sizeof(server->path), "%s/%s", dir, file);
	snprintf(server->address, sizeof(server->address), "unix:%s", server->path);
	/* A file left by one that was killed would only look as if it were listening. */
	unlink(server->path);
}

void test_redis_start(struct test_server *server, const char *dir, const char *options)
{
	char base[256], more[1024], *argv[MAX_ARGS];
	int argc;

	set_path(server, dir, "redis.sock");
	snprintf(base, sizeof(base),
		 "redis-server --port 0 --unixsocket %s --save '' --appendonly no", server->path);
	snprintf(more, sizeof(more), "%s", options);
	argc = add_words(argv, 0, base);
	add_words(argv, argc, more);
	server->pid = spawn(argv, dir);
	wait_until_it_answers(server, "PING\r\n", "-LOADING", "redis-server");
}

void test_memcached_start(struct test_server *server, const char *dir, const char *options)
{
	char base[256], more[1024], *argv[MAX_ARGS];
	int argc;

	set_path(server, dir, "memcached.sock");
	/* -u: a memcached that root starts wants to be told whom to become. */
	snprintf(base, sizeof(base), "memcached -s %s -a 0700 -u %s", server->path,
		 geteuid() == 0 ? "root" : "nobody");
	snprintf(more, sizeof(more), "%s", options);
	argc = add_words(argv, 0, base);
	add_words(argv, argc, more);
	server->pid = spawn(argv, dir);
	wait_until_it_answers(server, "version\r\n", "?", "memcached");
}

void test_server_kill(struct test_server *server, int signal)
{
	if (server->pid == 0)
		return;
	kill(server->pid, signal);
	if (waitpid(server->pid, NULL, 0) != server->pid)
		die("waitpid", server->path);
	server->pid = 0;
}

void test_server_stop(const struct test_server *server)
{
	int status;

	kill(server->pid, SIGSTOP);
	if (waitpid(server->pid, &status, WUNTRACED) != server->pid || !WIFSTOPPED(status))
		die("waitpid", server->path);
}
