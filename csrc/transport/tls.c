/* SPDX-License-Identifier: MIT */
/*
 * What it is: a TLS client session over OpenSSL, its bytes moved by our own recv and send.
 * What it is not: a certificate store, or a judge of ciphers: OpenSSL's defaults from TLS 1.2 on hold.
 *
 *   caller ── SSL_read/SSL_write ── ssl ══ memory pair ══ network ── recv/send ── socket
 *
 * Invariants:
 *   1. The peer's chain is verified and its name or address checked, unless `insecure` was given; a handshake that ends
 *      TIDE_OK has passed both.
 *   2. A call that answers TIDE_AGAIN has nothing left that it could do: what is encrypted was offered to the socket, and
 *      either the socket would block or bytes from the peer are missing.
 *   3. No prompt: a key with a passphrase fails.
 */
#include "transport/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/alloc.h"
#include "base/text.h"

enum {
    PAIR_SIZE = 64 * 1024, /* each way: three full records and some */
    PATH_SIZE = 4096,
    NAME_SIZE = 256,
};

struct tide_tls {
    const tide_allocator *alloc;
    SSL_CTX *context;
    SSL *ssl;
    BIO *network; /* our end of the pair */
    bool peer_has_ended;
    char name[NAME_SIZE]; /* that the certificate must be for */
};

/* ---- set-up ---- */

static const char *openssl_reason(unsigned long code) {
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    return reason != NULL ? reason : "unknown reason";
}

static bool path_of(char *out, tide_str path) {
    if (path.len >= PATH_SIZE || (path.len > 0 && memchr(path.data, '\0', path.len) != NULL))
        return false;
    memcpy(out, path.data, path.len);
    out[path.len] = '\0';
    return true;
}

static tide_status file_error(tide_error *error, const char *option, const char *path) {
    unsigned long code = ERR_peek_last_error();
    struct stat info;
    if (stat(path, &info) != 0)
        return tide_error_set(error, TIDE_OPTION, "%s=%s cannot be read: %s", option, path,
                              strerror(errno));
    return tide_error_set(error, TIDE_OPTION, "%s=%s cannot be used: %s", option, path,
                          openssl_reason(code));
}

static int no_passphrase(char *into, int size, int writing, void *context) {
    (void)into;
    (void)size;
    (void)writing;
    (void)context;
    return -1;
}

static tide_status load_authorities(SSL_CTX *context, tide_str ca, tide_error *error) {
    if (ca.len == 0) {
        SSL_CTX_set_default_verify_paths(context);
        return TIDE_OK;
    }
    char path[PATH_SIZE];
    if (!path_of(path, ca))
        return tide_error_set(error, TIDE_OPTION, "ca= is not a path");
    struct stat info;
    bool is_folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    if (SSL_CTX_load_verify_locations(context, is_folder ? NULL : path, is_folder ? path : NULL) !=
        1)
        return file_error(error, "ca", path);
    return TIDE_OK;
}

static tide_status load_own_certificate(SSL_CTX *context, const tide_url_options *options,
                                        tide_error *error) {
    if (options->cert.len == 0 && options->key.len == 0)
        return TIDE_OK;
    if (options->cert.len == 0)
        return tide_error_set(error, TIDE_OPTION, "key= without cert=");
    char path[PATH_SIZE];
    if (!path_of(path, options->cert))
        return tide_error_set(error, TIDE_OPTION, "cert= is not a path");
    if (SSL_CTX_use_certificate_chain_file(context, path) != 1)
        return file_error(error, "cert", path);
    /* Without key= the certificate's file holds both. */
    if (options->key.len > 0 && !path_of(path, options->key))
        return tide_error_set(error, TIDE_OPTION, "key= is not a path");
    if (SSL_CTX_use_PrivateKey_file(context, path, SSL_FILETYPE_PEM) != 1)
        return file_error(error, "key", path);
    if (SSL_CTX_check_private_key(context) != 1)
        return tide_error_set(error, TIDE_OPTION, "key=%s does not belong to the certificate",
                              path);
    return TIDE_OK;
}

static tide_status set_up_context(tide_tls *tls, const tide_url_options *options,
                                  tide_error *error) {
    tls->context = SSL_CTX_new(TLS_client_method());
    if (tls->context == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "no memory for TLS");
    SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION);
    SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                       SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_default_passwd_cb(tls->context, no_passphrase);
    SSL_CTX_set_verify(tls->context, options->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    tide_status status = TIDE_OK;
    if (!options->insecure)
        status = load_authorities(tls->context, options->ca, error);
    return status == TIDE_OK ? load_own_certificate(tls->context, options, error) : status;
}

static bool is_address(const char *name) {
    unsigned char raw[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, name, raw) == 1 || inet_pton(AF_INET6, name, raw) == 1;
}

static tide_status set_up_session(tide_tls *tls, tide_error *error) {
    BIO *inner = NULL;
    tls->ssl = SSL_new(tls->context);
    if (tls->ssl == NULL || BIO_new_bio_pair(&inner, PAIR_SIZE, &tls->network, PAIR_SIZE) != 1)
        return tide_error_set(error, TIDE_ENOMEM, "no memory for TLS");
    SSL_set_bio(tls->ssl, inner, inner);
    SSL_set_connect_state(tls->ssl);
    X509_VERIFY_PARAM *wanted = SSL_get0_param(tls->ssl);
    int accepted;
    if (is_address(tls->name)) {
        accepted = X509_VERIFY_PARAM_set1_ip_asc(wanted, tls->name);
    } else {
        X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        accepted = X509_VERIFY_PARAM_set1_host(wanted, tls->name, 0) == 1 &&
                   SSL_set_tlsext_host_name(tls->ssl, tls->name) == 1;
    }
    if (accepted != 1)
        return tide_error_set(error, TIDE_OPTION, "'%s' is no server name for TLS", tls->name);
    return TIDE_OK;
}

tide_status tide_tls_open(tide_tls **tls, const tide_allocator *alloc, const char *host,
                          const tide_url_options *options, tide_error *error) {
    tide_str name = options->server_name.len > 0 ? options->server_name : tide_str_from(host);
    if (name.len == 0 || name.len >= NAME_SIZE || memchr(name.data, '\0', name.len) != NULL)
        return tide_error_set(error, TIDE_OPTION, "server_name= is not a name");
    tide_tls *made = tide_alloc_zero(alloc, 1, sizeof *made);
    if (made == NULL)
        return tide_error_set(error, TIDE_ENOMEM, "no memory for TLS");
    made->alloc = alloc;
    memcpy(made->name, name.data, name.len);
    ERR_clear_error();
    tide_status status = set_up_context(made, options, error);
    if (status == TIDE_OK)
        status = set_up_session(made, error);
    if (status != TIDE_OK) {
        tide_tls_close(made, -1);
        return status;
    }
    *tls = made;
    return TIDE_OK;
}

/* ---- moving encrypted bytes; TIDE_OK, TIDE_AGAIN or TIDE_DISCONNECTED with errno ---- */

static tide_status flush(tide_tls *tls, int fd) {
    for (;;) {
        char *bytes;
        int size = BIO_nread0(tls->network, &bytes);
        if (size <= 0)
            return TIDE_OK;
        ssize_t sent = send(fd, bytes, (size_t)size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? TIDE_AGAIN : TIDE_DISCONNECTED;
        BIO_nread(tls->network, &bytes, (int)sent);
    }
}

static tide_status fill(tide_tls *tls, int fd) {
    char *room;
    int size = BIO_nwrite0(tls->network, &room);
    if (size <= 0)
        return TIDE_OK;
    for (;;) {
        ssize_t got = recv(fd, room, (size_t)size, 0);
        if (got > 0) {
            BIO_nwrite(tls->network, &room, (int)got);
            return TIDE_OK;
        }
        if (got == 0) {
            tls->peer_has_ended = true;
            errno = 0;
            return TIDE_DISCONNECTED;
        }
        if (errno != EINTR)
            return errno == EAGAIN || errno == EWOULDBLOCK ? TIDE_AGAIN : TIDE_DISCONNECTED;
    }
}

/* ---- what went wrong ---- */

static tide_status describe_certificate(const tide_tls *tls, long verdict, tide_error *error) {
    const char *what = X509_verify_cert_error_string(verdict);
    switch (verdict) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return tide_error_set(error, TIDE_TLS,
                              "the server's certificate is not for '%s': connect to a name that it "
                              "is for, or give that name with server_name=NAME",
                              tls->name);
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return tide_error_set(error, TIDE_TLS,
                              "the server's certificate is not trusted (%s): give the authority "
                              "that signed it with ca=FILE",
                              what);
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return tide_error_set(error, TIDE_TLS,
                              "the server's certificate is not valid now (%s): renew it, or mend "
                              "this machine's clock",
                              what);
    default:
        return tide_error_set(error, TIDE_TLS, "the server's certificate was refused: %s", what);
    }
}

static tide_status describe_failure(const tide_tls *tls, tide_error *error) {
    unsigned long code = ERR_peek_error();
    long verdict = SSL_get_verify_result(tls->ssl);
    if (ERR_GET_LIB(code) != ERR_LIB_SSL)
        return tide_error_set(error, TIDE_TLS, "TLS failed: %s", openssl_reason(code));
    switch (ERR_GET_REASON(code)) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED: return describe_certificate(tls, verdict, error);
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
        return tide_error_set(error, TIDE_TLS,
                              "the server does not speak TLS on this port: use its TLS port, or "
                              "redis:// and valkey:// for this one");
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
        return tide_error_set(error, TIDE_TLS,
                              "the server refused the handshake (%s): it may want a client "
                              "certificate, given with cert=FILE and key=FILE",
                              openssl_reason(code));
    default: return tide_error_set(error, TIDE_TLS, "TLS failed: %s", openssl_reason(code));
    }
}

static tide_status describe_loss(tide_error *error, const char *doing) {
    if (errno == 0)
        return tide_error_set(error, TIDE_DISCONNECTED, "the server closed the connection%s",
                              doing);
    return tide_error_set(error, TIDE_DISCONNECTED, "the connection was lost%s: %s", doing,
                          strerror(errno));
}

/* ---- the session ---- */

/* After an SSL call that did nothing: makes way for the next attempt. TIDE_OK: try again. */
static tide_status make_way(tide_tls *tls, int fd, int result, const char *doing,
                            tide_error *error) {
    int reason = SSL_get_error(tls->ssl, result);
    /* An alert of ours tells the peer why; it goes out even when all is lost. */
    int kept_errno = 0;
    tide_status flushed = flush(tls, fd);
    if (flushed == TIDE_DISCONNECTED)
        kept_errno = errno;
    switch (reason) {
    case SSL_ERROR_WANT_WRITE:
        if (flushed == TIDE_DISCONNECTED) {
            errno = kept_errno;
            return describe_loss(error, doing);
        }
        return flushed;
    case SSL_ERROR_WANT_READ: {
        /* What the peer said before it went away comes first, so a failed send doesn't count here. */
        tide_status filled = fill(tls, fd);
        if (filled == TIDE_DISCONNECTED)
            return describe_loss(error, doing);
        if (filled == TIDE_AGAIN && flushed == TIDE_DISCONNECTED) {
            errno = kept_errno;
            return describe_loss(error, doing);
        }
        return filled;
    }
    case SSL_ERROR_ZERO_RETURN: errno = 0; return describe_loss(error, doing);
    default: return describe_failure(tls, error);
    }
}

tide_status tide_tls_handshake(tide_tls *tls, int fd, tide_error *error) {
    for (;;) {
        ERR_clear_error();
        int result = SSL_do_handshake(tls->ssl);
        if (result == 1) {
            (void)flush(tls, fd);
            return TIDE_OK;
        }
        tide_status status = make_way(tls, fd, result, " during the TLS handshake", error);
        if (status == TIDE_DISCONNECTED) {
            if (error != NULL)
                error->status = TIDE_CONNECT;
            return TIDE_CONNECT;
        }
        if (status != TIDE_OK)
            return status;
    }
}

tide_status tide_tls_read(tide_tls *tls, int fd, char *into, size_t size, size_t *done,
                          tide_error *error) {
    for (;;) {
        ERR_clear_error();
        int result = SSL_read(tls->ssl, into, size > INT_MAX ? INT_MAX : (int)size);
        if (result > 0) {
            *done = (size_t)result;
            return TIDE_OK;
        }
        tide_status status = make_way(tls, fd, result, "", error);
        if (status != TIDE_OK)
            return status;
    }
}

tide_status tide_tls_write(tide_tls *tls, int fd, const char *from, size_t size, size_t *done,
                           tide_error *error) {
    size_t written = 0;
    *done = 0;
    tide_status status = flush(tls, fd);
    while (status == TIDE_OK && written < size) {
        ERR_clear_error();
        size_t rest = size - written;
        int result = SSL_write(tls->ssl, from + written, rest > INT_MAX ? INT_MAX : (int)rest);
        if (result > 0) {
            written += (size_t)result;
            continue;
        }
        status = make_way(tls, fd, result, "", error);
    }
    if (status == TIDE_OK)
        status = flush(tls, fd);
    *done = written;
    if (status == TIDE_DISCONNECTED && written > 0)
        return TIDE_OK; /* the next call says so */
    if (status == TIDE_DISCONNECTED)
        return describe_loss(error, "");
    if (status == TIDE_AGAIN && written > 0)
        return TIDE_OK;
    return status;
}

bool tide_tls_wants_write(const tide_tls *tls) {
    return BIO_ctrl_pending(tls->network) > 0;
}

bool tide_tls_has_pending(const tide_tls *tls) {
    return SSL_pending(tls->ssl) > 0 || BIO_ctrl_pending(SSL_get_rbio(tls->ssl)) > 0;
}

void tide_tls_close(tide_tls *tls, int fd) {
    if (tls == NULL)
        return;
    ERR_clear_error();
    if (tls->ssl != NULL && fd >= 0 && !tls->peer_has_ended && SSL_is_init_finished(tls->ssl) &&
        SSL_shutdown(tls->ssl) >= 0)
        (void)flush(tls, fd);
    SSL_free(tls->ssl);
    BIO_free(tls->network);
    SSL_CTX_free(tls->context);
    ERR_clear_error();
    tide_free(tls->alloc, tls, sizeof *tls);
}
