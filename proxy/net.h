/*
 * net.h - addresses, and non-blocking sockets that connect and listen.
 *
 * An address is written "unix:/path", "host:port" or "[v6]:port". All file
 * descriptors made here are non-blocking and close-on-exec.
 */
#ifndef MP_NET_H
#define MP_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

enum { MP_ADDRESS_MAX = 4 };

/*
 * A parsed address. A name may stand for several ("localhost": ::1 and
 * 127.0.0.1); who connects tries them in turn. A name is looked up once, when
 * it is parsed: looking it up later would block the data thread.
 */
struct mp_address {
	char text[256]; /* as it was given, for messages */
	int count;
	struct {
		struct sockaddr_storage address;
		socklen_t len;
	} at[MP_ADDRESS_MAX];
};

/*
 * Parse text; may block on a name look-up. False with a one-line reason in err
 * ("'localhost': no port"). An empty host or "*" means all interfaces, for
 * listening only.
 */
bool mp_address_parse(const char *text, struct mp_address *address, char *err, size_t err_bytes);

/*
 * For libraries that connect by themselves: the host (without brackets) and the
 * port; of "unix:/path" the path, and port 0. False: it is neither.
 */
bool mp_address_split(const char *text, char *host, size_t host_bytes, int *port);

/*
 * Begin to connect to the attempt-th of the address' places (any number, taken
 * modulo their count). Returns a socket, -1: errno. The socket becomes
 * writable when the attempt has ended; then mp_connect_result says how.
 */
int mp_connect_begin(const struct mp_address *address, unsigned attempt);
/* 0: connected, and TCP_NODELAY is on; otherwise the errno of the failure. */
int mp_connect_result(int fd);

/*
 * Bind and listen. Returns the socket; -1 with a one-line reason in err
 * ("127.0.0.1:7101: Address already in use"). A unix socket file left behind
 * by a process that is gone is replaced, one that somebody answers is not.
 */
int mp_listen(const char *text, int backlog, char *err, size_t err_bytes);
/* Accept one connection at what mp_listen() returned, tuned as by mp_tune. -1: errno (EAGAIN:
 * none there). */
int mp_accept(int listener);
/* The port a TCP socket is bound to (useful after ":0"); 0 if it has none. */
int mp_local_port(int fd);

/* Who is at the other end of a TCP socket: "10.0.0.2:7400", "[::1]:7400"; "?" if that cannot be
 * told. */
void mp_remote_text(int fd, char *text, size_t text_bytes);

/* For a TCP socket: no Nagle, keep-alive probes (a dead peer is seen within minutes). */
void mp_tune(int fd);

/* "127.0.0.1:6379", "[::1]:6379", "/path:0", as Redis tells of a client. */
void mp_sockaddr_text(const struct sockaddr *address, char *out, size_t bytes);

#endif
