/* dev_child.c - see dev_child.h. */
#include "config.h"

#include "dev_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

bool child_find(const char *name, char path[PATH_MAX])
{
	const char *dirs = getenv("PATH");
	size_t n;

	for (; dirs && *dirs; dirs += n + (dirs[n] == ':')) {
		n = strcspn(dirs, ":");
		if (n == 0)
			continue;
		snprintf(path, PATH_MAX, "%.*s/%s", (int)n, dirs, name);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

/* In the child. Tells an errno through the pipe if it does not come to exec. */
static void become(char *const argv[], int log_fd, int tell_fd, pid_t parent)
{
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;
	int error;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(0);         /* it died before the line above */
	setenv("LC_ALL", "C", 1); /* servers are to compare strings byte by byte */
	if (null_fd >= 0 && dup2(null_fd, STDIN_FILENO) >= 0 && dup2(log_fd, STDOUT_FILENO) >= 0 &&
	    dup2(log_fd, STDERR_FILENO) >= 0)
		execv(argv[0], argv);
	error = errno;
	if (write(tell_fd, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

pid_t child_start(char *const argv[], const char *log, char *err, size_t err_bytes)
{
	int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	pid_t parent = getpid(), pid = -1;
	int tell[2], error = 0;

	if (log_fd < 0) {
		snprintf(err, err_bytes, "%s: %s", log, strerror(errno));
		return -1;
	}
	if (pipe2(tell, O_CLOEXEC) == 0) {
		pid = fork();
		if (pid == 0)
			become(argv, log_fd, tell[1], parent);
		error = pid < 0 ? errno : 0;
		close(tell[1]);
		/* End of file: the pipe was closed by exec. */
		if (pid > 0 && read(tell[0], &error, sizeof(error)) > 0) {
			waitpid(pid, NULL, 0);
			pid = -1;
		}
		close(tell[0]);
	} else {
		error = errno;
	}
	close(log_fd);
	if (pid < 0)
		snprintf(err, err_bytes, "cannot start %s: %s", argv[0], strerror(error));
	return pid;
}

void child_describe_end(int wait_status, char *out, size_t cap)
{
	if (WIFSIGNALED(wait_status))
		snprintf(out, cap, "killed by signal %d (%s)", WTERMSIG(wait_status),
			 strsignal(WTERMSIG(wait_status)));
	else
		snprintf(out, cap, "exit code %d", WEXITSTATUS(wait_status));
}
