/* dev_start.c - finding what a `muproxy dev` group needs, and starting it. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "dev_child.h"
#include "dev_group.h"
#include "http_get.h"
#include "net.h"

enum {
	BACKEND_DEADLINE_MS = 15 * 1000,
	READY_DEADLINE_MS = 60 * 1000,
	HTTP_TIMEOUT_MS = 500,
	LOG_TAIL_BYTES = 1500,
};

bool dev_find_programs(struct dev *dev)
{
	ssize_t n = readlink("/proc/self/exe", dev->program[REPLICA], PATH_MAX - 1);
	int role;

	if (n < 0) {
		dev_complain("/proc/self/exe: %s", strerror(errno));
		return false;
	}
	for (role = REDIS; role < ROLES; role++) {
		if (child_find(dev_role_names[role], dev->program[role]))
			continue;
		dev_complain("%s is not in PATH (Debian: apt-get install %s)", dev_role_names[role],
			     dev_role_names[role]);
		return false;
	}
	return true;
}

/* All ports are bound at once, so that ranges which overlap are found, too. */
bool dev_check_ports(const struct dev_options *o)
{
	const int first[] = {o->redis_port, o->memcached_port, o->admin_port, o->peer_port};
	static const char *const names[] = {"redis", "memcached", "admin", "peer"};
	const int kinds = o->peer_port ? 4 : 3;
	int fds[4 * MU_MAX_REPLICAS], count = 0;
	char address[32], why[320];
	bool free_ports = true;
	int kind, id;

	for (kind = 0; kind < kinds; kind++) {
		for (id = 0; id < (int)o->replicas && free_ports; id++) {
			snprintf(address, sizeof(address), "127.0.0.1:%d", first[kind] + id);
			fds[count] = mp_listen(address, 1, why, sizeof(why));
			free_ports = fds[count] >= 0;
			if (free_ports)
				count++;
			else
				dev_complain("%s (--%s-port chooses another)", why, names[kind]);
		}
	}
	while (count > 0)
		close(fds[--count]);
	return free_ports;
}

static bool write_pid_file(struct dev *dev, unsigned id, const char *name, pid_t pid)
{
	char path[PATH_MAX];
	FILE *out;

	dev_path(&dev->files, id, name, path);
	out = fopen(path, "we");
	if (out)
		fprintf(out, "%d\n", (int)pid);
	if (!out || fclose(out) != 0) {
		dev_complain("%s: %s", path, strerror(errno));
		return false;
	}
	return true;
}

static bool start_child(struct dev *dev, unsigned id, enum dev_role role, char *const argv[])
{
	char log[PATH_MAX], err[PATH_MAX + 200];
	pid_t pid;

	dev_path(&dev->files, id, "muproxy.log", log);
	pid = child_start(argv, log, err, sizeof(err));
	if (pid < 0) {
		dev_complain("%s", err);
		return false;
	}
	dev->pid[id][role] = pid;
	return true;
}

/*
 * One database more than clients see, for the applied LSN; no limit on memory,
 * since each server would reach it at another moment (DESIGN 6.4).
 */
static bool start_redis(struct dev *dev, unsigned id)
{
	char socket_path[PATH_MAX], dir[PATH_MAX];
	char *argv[] = {
		dev->program[REDIS],
		"--port",
		"0",
		"--unixsocket",
		socket_path,
		"--unixsocketperm",
		"700",
		"--dir",
		dir,
		"--save",
		"",
		"--appendonly",
		"no",
		"--daemonize",
		"no",
		"--databases",
		"17",
		"--maxmemory",
		"0",
		"--timeout",
		"0",
		"--loglevel",
		"warning",
		"--stop-writes-on-bgsave-error",
		"no",
		"--logfile",
		"",
		NULL,
	};

	dev_path(&dev->files, id, "redis.sock", socket_path);
	dev_path(&dev->files, id, "", dir);
	return start_child(dev, id, REDIS, argv) &&
	       write_pid_file(dev, id, "redis.pid", dev->pid[id][REDIS]);
}

static bool start_memcached(struct dev *dev, unsigned id)
{
	const struct passwd *user = getpwuid(geteuid());
	char socket_path[PATH_MAX];
	/* It does not run as root unless told so by name. */
	char *argv[] = {
		dev->program[MEMCACHED],
		"-s",
		socket_path,
		"-a",
		"700",
		"-U",
		"0",
		"-t",
		"1",
		"-m",
		"256",
		/* There is one connection: that others have their turn costs it system calls. */
		"-R",
		"1000",
		"-u",
		user ? user->pw_name : "root",
		NULL,
	};

	dev_path(&dev->files, id, "memcached.sock", socket_path);
	return start_child(dev, id, MEMCACHED, argv) &&
	       write_pid_file(dev, id, "memcached.pid", dev->pid[id][MEMCACHED]);
}

static bool start_replica(struct dev *dev, unsigned id)
{
	char conf[PATH_MAX];
	char *argv[] = {dev->program[REPLICA], "-c", conf, NULL};

	dev_path(&dev->files, id, "muproxy.conf", conf);
	return start_child(dev, id, REPLICA, argv);
}

/* ------------------------------------------------- waiting for the group */

static bool answers(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes;

	if (fd < 0)
		return false;
	snprintf(to.sun_path, sizeof(to.sun_path), "%.107s", path);
	yes = connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;
	close(fd);
	return yes;
}

/* Its sockets are there. */
static bool backends_answer(const struct dev *dev, unsigned id, char *why, size_t why_bytes)
{
	char redis[PATH_MAX], memcached[PATH_MAX];

	dev_path(&dev->files, id, "redis.sock", redis);
	dev_path(&dev->files, id, "memcached.sock", memcached);
	if (!answers(redis))
		snprintf(why, why_bytes, "redis-server does not answer");
	else if (!answers(memcached))
		snprintf(why, why_bytes, "memcached does not answer");
	else
		return true;
	return false;
}

static bool replica_serves(const struct dev *dev, unsigned id, char *why, size_t why_bytes)
{
	char address[32], err[200], *body;
	int code;

	snprintf(address, sizeof(address), "127.0.0.1:%d", dev->options.admin_port + (int)id - 1);
	code = http_get(address, "/healthz", HTTP_TIMEOUT_MS, &body, err, sizeof(err));
	if (code == 200) {
		free(body);
		return true;
	}
	if (code >= 0)
		snprintf(why, why_bytes, "%.*s", (int)strcspn(body, "\n"), body);
	else
		snprintf(why, why_bytes, "%s", err);
	free(body);
	return false;
}

/* What the replica and its backends said last, for whoever must find out why it failed. */
static void show_log_tail(const struct dev *dev, unsigned id)
{
	char path[PATH_MAX], tail[LOG_TAIL_BYTES + 1], *start = tail;
	ssize_t n;
	off_t size;
	int fd;

	dev_path(&dev->files, id, "muproxy.log", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	size = lseek(fd, 0, SEEK_END);
	n = pread(fd, tail, LOG_TAIL_BYTES, size > LOG_TAIL_BYTES ? size - LOG_TAIL_BYTES : 0);
	close(fd);
	if (n <= 0)
		return;
	tail[n] = '\0';
	if (size > LOG_TAIL_BYTES && strchr(tail, '\n'))
		start = strchr(tail, '\n') + 1;
	dev_complain("the end of replica %u's log:", id);
	fputs(start, stderr);
}

/* True when check holds for every replica; false: a signal came, or it failed (says why). */
static bool wait_for_all(struct dev *dev,
			 bool (*check)(const struct dev *, unsigned, char *, size_t),
			 int deadline_ms)
{
	uint64_t until = clock_ns() + (uint64_t)deadline_ms * 1000000;
	char why[200] = "";
	unsigned id = 1;

	while (!dev->stop && !dev->broken && id <= dev->options.replicas) {
		if (check(dev, id, why, sizeof(why))) {
			id++;
			continue;
		}
		if (clock_ns() > until) {
			dev_complain("replica %u is not ready after %d s: %s", id,
				     deadline_ms / 1000, why);
			dev->broken = true;
		}
		dev_pump(dev, DEV_POLL_MS);
	}
	if (dev->broken)
		show_log_tail(dev, id <= dev->options.replicas ? id : 1);
	return !dev->stop && !dev->broken;
}

bool dev_start_group(struct dev *dev)
{
	unsigned id;

	dev_say("starting %u replicas in %s, their memory in %s", dev->options.replicas,
		dev->files.dir, dev->files.memory);
	for (id = 1; id <= dev->options.replicas; id++) {
		if (!start_redis(dev, id) || !start_memcached(dev, id))
			return false;
		dev_say("replica %u: redis-server (process %d) and memcached (process %d) started",
			id, (int)dev->pid[id][REDIS], (int)dev->pid[id][MEMCACHED]);
	}
	if (!wait_for_all(dev, backends_answer, BACKEND_DEADLINE_MS))
		return false;
	for (id = 1; id <= dev->options.replicas; id++) {
		if (!start_replica(dev, id))
			return false;
		dev_say("replica %u: muproxy (process %d) started: redis %d, memcached %d, admin "
			"%d",
			id, (int)dev->pid[id][REPLICA], dev->options.redis_port + (int)id - 1,
			dev->options.memcached_port + (int)id - 1,
			dev->options.admin_port + (int)id - 1);
	}
	dev_say("waiting for a leader");
	return wait_for_all(dev, replica_serves, READY_DEADLINE_MS);
}
