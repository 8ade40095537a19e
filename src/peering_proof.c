/* peering_proof.c - see peering_proof.h: HMAC-SHA256, by OpenSSL's libcrypto. */
#include "peering_proof.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/random.h>

/* Separates these MACs from whatever else the secret may be used for. */
static const char label[16] = "muproxy peering";

struct transcript {
	char label[sizeof(label)];
	uint64_t version;
	uint64_t role;
	struct peering_hello dialler, acceptor;
};

bool peering_challenge(uint8_t challenge[PEERING_CHALLENGE_BYTES])
{
	ssize_t n;

	do
		n = getrandom(challenge, PEERING_CHALLENGE_BYTES, 0);
	while (n < 0 && errno == EINTR);
	return n == PEERING_CHALLENGE_BYTES;
}

bool peering_begin_hello(struct peering_hello *hello, const struct peering_options *options)
{
	*hello = (struct peering_hello){
		.from = (uint8_t)options->id,
		.has_secret = options->secret_bytes > 0,
		.group_id = options->group_id,
		.fabric = options->fabric,
		.ring_bytes = options->ring_bytes,
	};
	return peering_challenge(hello->challenge);
}

bool peering_prove(const uint8_t *secret, size_t secret_bytes, enum peering_role role,
		   const struct peering_hello *dialler, const struct peering_hello *acceptor,
		   struct peering_proof *proof)
{
	struct transcript transcript = {
		.version = PEERING_VERSION,
		.role = role,
		.dialler = *dialler,
		.acceptor = *acceptor,
	};
	unsigned bytes = sizeof(proof->mac);

	memcpy(transcript.label, label, sizeof(label));
	return HMAC(EVP_sha256(), secret_bytes ? secret : (const uint8_t *)"", (int)secret_bytes,
		    (const unsigned char *)&transcript, sizeof(transcript), proof->mac, &bytes) &&
	       bytes == sizeof(proof->mac);
}

bool peering_proof_holds(const uint8_t *secret, size_t secret_bytes, enum peering_role role,
			 const struct peering_hello *dialler, const struct peering_hello *acceptor,
			 const struct peering_proof *proof)
{
	struct peering_proof right;

	return peering_prove(secret, secret_bytes, role, dialler, acceptor, &right) &&
	       CRYPTO_memcmp(right.mac, proof->mac, sizeof(right.mac)) == 0;
}
