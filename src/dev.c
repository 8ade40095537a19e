/*
 * dev.c - `muproxy dev`: makes the files, starts the backends, then the
 * replicas, waits until they serve, and watches until it is told to stop. A
 * replica that dies stays down, and its backends stay up, so that a failure
 * can be played through by hand: kill -9 one, look, start it again.
 */
#include "config.h"

#include "dev.h"

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "dev_child.h"
#include "dev_group.h"
#include "pidfile.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_CANNOT_START = 2 };
enum {
	REPLICA_STOP_MS = 6 * 1000, /* more than a replica's drain-timeout and its grace */
	BACKEND_STOP_MS = 3 * 1000,
};

const char *const dev_role_names[ROLES] = {"replica", "redis-server", "memcached"};

void dev_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* ------------------------------------------------------ signals, children */

static bool find_child(const struct dev *dev, pid_t pid, unsigned *id, int *role)
{
	for (*id = 1; *id <= dev->options.replicas; ++*id) {
		for (*role = 0; *role < ROLES; ++*role) {
			if (dev->pid[*id][*role] == pid)
				return true;
		}
	}
	return false;
}

static void note_end(struct dev *dev, pid_t pid, int wait_status)
{
	char how[80], conf[PATH_MAX];
	unsigned id;
	int role;

	if (!find_child(dev, pid, &id, &role))
		return;
	dev->pid[id][role] = 0;
	if (dev->ending)
		return;
	child_describe_end(wait_status, how, sizeof(how));
	dev->broken = !dev->ready;
	if (role == REPLICA) {
		dev_path(&dev->files, id, "muproxy.conf", conf);
		dev_say("replica %u (process %d) has ended: %s; it stays down until you start it: "
			"muproxy -c %s",
			id, (int)pid, how, conf);
	} else {
		dev_say("%s of replica %u (process %d) has ended: %s; it stays down",
			dev_role_names[role], id, (int)pid, how);
	}
}

void dev_pump(struct dev *dev, int wait_ms)
{
	struct pollfd pollfd = {.fd = dev->signal_fd, .events = POLLIN};
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	if (poll(&pollfd, 1, wait_ms) <= 0)
		return;
	while (read(dev->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGCHLD)
			dev->stop = true;
	}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		note_end(dev, pid, status);
}

static bool open_signals(struct dev *dev)
{
	struct sigaction action;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	/* nohup ignores it, and then it must stay so. */
	if (sigaction(SIGHUP, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
		sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	dev->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return dev->signal_fd >= 0;
}

static void say_ready(const struct dev *dev)
{
	const struct dev_options *o = &dev->options;
	int last = (int)o->replicas - 1;

	dev_say("ready: redis on 127.0.0.1:%d-%d, memcached on 127.0.0.1:%d-%d, admin on "
		"127.0.0.1:%d-%d",
		o->redis_port, o->redis_port + last, o->memcached_port, o->memcached_port + last,
		o->admin_port, o->admin_port + last);
	dev_say("  try      redis-cli -p %d set greeting hello", o->redis_port);
	dev_say("           redis-cli -p %d get greeting", o->redis_port + last);
	dev_say("  look     muctl --admin 127.0.0.1:%d status", o->admin_port);
	dev_say("  break    kill -9 $(cat %s/replica-1/muproxy.pid)", dev->files.dir);
	dev_say("  mend     muproxy -c %s/replica-1/muproxy.conf", dev->files.dir);
	dev_say("  stop     Ctrl-C, or kill %d", (int)getpid());
}

/* -------------------------------------------------------------- stopping */

static bool any_runs(const struct dev *dev, int from_role, int to_role)
{
	unsigned id;
	int role;

	for (id = 1; id <= dev->options.replicas; id++) {
		for (role = from_role; role <= to_role; role++) {
			if (dev->pid[id][role])
				return true;
		}
	}
	return false;
}

static void signal_all(const struct dev *dev, int from_role, int to_role, int number)
{
	unsigned id;
	int role;

	for (id = 1; id <= dev->options.replicas; id++) {
		for (role = from_role; role <= to_role; role++) {
			if (dev->pid[id][role])
				kill(dev->pid[id][role], number);
		}
	}
}

/* Ask first, then force. */
static void end_children(struct dev *dev, int from_role, int to_role, int patience_ms)
{
	uint64_t until = clock_ns() + (uint64_t)patience_ms * 1000000;

	signal_all(dev, from_role, to_role, SIGTERM);
	while (any_runs(dev, from_role, to_role) && clock_ns() < until)
		dev_pump(dev, DEV_POLL_MS);
	signal_all(dev, from_role, to_role, SIGKILL);
	while (any_runs(dev, from_role, to_role))
		dev_pump(dev, DEV_POLL_MS);
}

/* A replica that was started again by hand: not our child, but of no use without the rest. */
static void end_strangers(struct dev *dev)
{
	uint64_t until = clock_ns() + (uint64_t)REPLICA_STOP_MS * 1000000;
	char path[PATH_MAX];
	unsigned id;
	pid_t pid;

	for (id = 1; id <= dev->options.replicas; id++) {
		int number = SIGTERM;

		dev_path(&dev->files, id, "muproxy.pid", path);
		while ((pid = pidfile_holder(path)) > 0) {
			if (number == SIGTERM || clock_ns() > until)
				kill(pid, number);
			number = clock_ns() > until ? SIGKILL : 0;
			dev_pump(dev, DEV_POLL_MS);
		}
	}
}

static void stop_group(struct dev *dev)
{
	dev->ending = true;
	end_children(dev, REPLICA, REPLICA, REPLICA_STOP_MS);
	if (dev->files.replicas)
		end_strangers(dev);
	end_children(dev, REDIS, MEMCACHED, BACKEND_STOP_MS);
	dev_files_remove(&dev->files);
}

int dev_main(int argc, char **argv)
{
	static struct dev dev;
	char err[PATH_MAX + 300];
	int code = dev_take_options(&dev.options, argc, argv);

	if (code >= 0)
		return code;
	dev_files_init(&dev.files);
	if (!open_signals(&dev) || !dev_find_programs(&dev) || !dev_check_ports(&dev.options))
		return EXIT_CANNOT_START;
	if (!dev_files_make(&dev.files, &dev.options, err, sizeof(err))) {
		dev_complain("%s", err);
		dev_files_remove(&dev.files);
		return EXIT_CANNOT_START;
	}
	code = EXIT_OK;
	if (dev_start_group(&dev)) {
		dev.ready = true;
		say_ready(&dev);
		while (!dev.stop)
			dev_pump(&dev, -1);
	} else if (!dev.stop) {
		code = EXIT_FAILED;
	}
	dev_say("stopping");
	stop_group(&dev);
	dev_say("stopped; nothing is left behind%s",
		dev.options.keep ? " but configurations and logs" : "");
	return code;
}
