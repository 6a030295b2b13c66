/* hub_transfer.c - HTTP with the hub, by libcurl; checksums by libcrypto.
 *
 * GET ENDPOINT/OWNER/NAME/resolve/REVISION/FILE answers small files itself and redirects large ones to another host. The
 * answer to a HEAD, before any redirect to another host, says in headers what counts:
 *
 *     X-Repo-Commit            the commit that the revision is now
 *     X-Linked-Etag or ETag    the checksum of the content
 *     X-Linked-Size or Content-Length
 *
 * The token goes to the endpoint's host only: libcurl drops the header when a redirect leaves it. Proxies are libcurl's
 * business (http_proxy, https_proxy, no_proxy).
 */
#include "weights/hub_transfer.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"

#if DLA_HUB

#include <curl/curl.h>
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ATTEMPTS = 6, MOST_REDIRECTS = 5, CONNECT_SECONDS = 10, STALLED_SECONDS = 30, MOST_TOKEN_BYTES = 4096 };
static const char default_endpoint[] = "https://huggingface.co";

static void initialise_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

/* ---- requests ---------------------------------------------------------------------------------------------------------- */

struct request {
    CURL *curl;
    struct curl_slist *headers;
    struct arena arena;
    const char *url;
    char error[CURL_ERROR_SIZE];
};

static void request_free(struct request *request)
{
    curl_easy_cleanup(request->curl);
    curl_slist_free_all(request->headers);
    arena_free(&request->arena);
}

static dla_status endpoint(struct arena *arena, char **result)
{
    const char *set = getenv("HF_ENDPOINT");
    char *text = arena_copy_string(arena, set != NULL && set[0] != '\0' ? set : default_endpoint);

    if (text == NULL)
        return status_out_of_memory(sizeof(default_endpoint), "a URL");
    for (size_t length = strlen(text); length > 0 && text[length - 1] == '/'; length--)
        text[length - 1] = '\0';
    if (strncmp(text, "https://", 8) != 0 && strncmp(text, "http://", 7) != 0)
        return status_set(DLA_ERROR_ARGUMENT, "HF_ENDPOINT is '%.200s', not a URL that starts with https:// or http://", text);
    *result = text;
    return DLA_OK;
}

/* HF_TOKEN, or the file in which `huggingface-cli login` left one. NULL without. */
static dla_status read_token(struct arena *arena, const char **token)
{
    const char *set = getenv("HF_TOKEN"), *path = getenv("HF_TOKEN_PATH");
    char *text;
    size_t length;

    *token = NULL;
    if (set == NULL || set[0] == '\0') {
        if (path == NULL || path[0] == '\0') {
            const char *home = hub_home(arena);
            path = home != NULL ? arena_format(arena, "%s/token", home) : NULL;
        }
        if (path == NULL || access(path, R_OK) != 0)
            return DLA_OK;
        dla_status status = file_read_text(path, MOST_TOKEN_BYTES, &text, &length);
        if (status != DLA_OK)
            return status;
        text[strcspn(text, "\r\n")] = '\0';
        *token = text[0] != '\0' ? arena_copy_string(arena, text) : NULL;
        memory_free(text);
    } else {
        *token = set;
    }
    for (const char *c = *token; c != NULL && *c != '\0'; c++)
        if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f)
            return status_set(DLA_ERROR_ARGUMENT, "the hub's token (HF_TOKEN) holds a character that no token has");
    return DLA_OK;
}

/* A slash in a revision is part of its name, not of the path. */
static char *escape_slashes(const char *revision, struct arena *arena)
{
    char *escaped = arena_allocate(arena, 3 * strlen(revision) + 1), *end = escaped;

    for (; escaped != NULL && *revision != '\0'; revision++) {
        if (*revision == '/') {
            *end++ = '%';
            *end++ = '2';
            *end++ = 'F';
        } else {
            *end++ = *revision;
        }
    }
    return escaped;
}

static dla_status add_header(struct request *request, const char *header)
{
    struct curl_slist *extended = header != NULL ? curl_slist_append(request->headers, header) : NULL;
    if (extended == NULL)
        return status_out_of_memory(256, "a request");
    request->headers = extended;
    return DLA_OK;
}

/* Everything that HEAD and GET have in common. */
static dla_status request_make(const struct hub_repository *repository, const char *revision, const char *file, struct request *request)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char *base;
    const char *token, *escaped;
    dla_status status;

    pthread_once(&once, initialise_curl);
    *request = (struct request){0};
    if ((status = endpoint(&request->arena, &base)) != DLA_OK || (status = read_token(&request->arena, &token)) != DLA_OK)
        return status;
    escaped = escape_slashes(revision, &request->arena);
    request->url = escaped != NULL ? arena_format(&request->arena, "%s/%s/resolve/%s/%s", base, repository->name, escaped, file) : NULL;
    request->curl = curl_easy_init();
    if (request->url == NULL || request->curl == NULL)
        return status_out_of_memory(1024, "a request");
    /* Compressed answers would have other sizes and checksums. */
    if ((status = add_header(request, "Accept-Encoding: identity")) != DLA_OK)
        return status;
    if (token != NULL && (status = add_header(request, arena_format(&request->arena, "Authorization: Bearer %s", token))) != DLA_OK)
        return status;

    bool secure = strncmp(base, "https:", 6) == 0;
    CURL *curl = request->curl;
    CURLcode code = CURLE_OK;
    code = code != CURLE_OK ? code : curl_easy_setopt(curl, CURLOPT_URL, request->url);
    code = code != CURLE_OK ? code : curl_easy_setopt(curl, CURLOPT_HTTPHEADER, request->headers);
    code = code != CURLE_OK ? code : curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    code = code != CURLE_OK ? code : curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    code = code != CURLE_OK ? code : curl_easy_setopt(curl, CURLOPT_USERAGENT, "dla/" DLA_VERSION);
    code = code != CURLE_OK ? code : curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, request->error);
    code = code != CURLE_OK ? code : curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    code = code != CURLE_OK ? code : curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    code = code != CURLE_OK ? code : curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    code = code != CURLE_OK ? code : curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)STALLED_SECONDS);
    if (code != CURLE_OK)
        return status_set(DLA_ERROR_UNSUPPORTED, "libcurl %s: %s", curl_version(), curl_easy_strerror(code));
    return DLA_OK;
}

static dla_status transfer_failed(const struct request *request, CURLcode code)
{
    return status_set(code == CURLE_OUT_OF_MEMORY ? DLA_ERROR_MEMORY : DLA_ERROR_IO, "%s: %s", request->url,
                      request->error[0] != '\0' ? request->error : curl_easy_strerror(code));
}

static dla_status refused(const struct request *request, const struct hub_repository *repository, long answer)
{
    if (answer == 401 || answer == 403)
        return status_set(DLA_ERROR_IO, "%s: the hub refuses (HTTP %ld): %s does not exist, or needs a token that may read it (HF_TOKEN)",
                          request->url, answer, repository->name);
    return status_set(DLA_ERROR_IO, "%s: the hub answers with HTTP %ld", request->url, answer);
}

/* Worth another attempt: the server is busy, or the connection broke. */
static bool is_temporary(CURLcode code, long answer)
{
    return answer == 408 || answer == 429 || answer >= 500 || code == CURLE_PARTIAL_FILE || code == CURLE_RECV_ERROR
           || code == CURLE_SEND_ERROR || code == CURLE_GOT_NOTHING || code == CURLE_OPERATION_TIMEDOUT || code == CURLE_HTTP2_STREAM
           || code == CURLE_COULDNT_CONNECT;
}

/* 0.1, 0.2, 0.4 ... seconds. */
static void wait_before_attempt(int attempt)
{
    long milliseconds = 100L << (attempt - 1);
    const struct timespec pause = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* ---- HEAD -------------------------------------------------------------------------------------------------------------- */

struct head_answer {
    char etag[HUB_MOST_CHECKSUM_BYTES + 8], linked_etag[HUB_MOST_CHECKSUM_BYTES + 8], commit[HUB_MOST_CHECKSUM_BYTES + 1], location[2048];
    char length[32], linked_length[32], error[64];
};

static void take_header(const char *line, size_t length, const char *name, char *text, size_t size)
{
    size_t name_length = strlen(name);

    if (length <= name_length || strncasecmp(line, name, name_length) != 0 || line[name_length] != ':')
        return;
    line += name_length + 1;
    length -= name_length + 1;
    while (length > 0 && (*line == ' ' || *line == '\t')) {
        line++;
        length--;
    }
    while (length > 0 && (line[length - 1] == '\r' || line[length - 1] == '\n' || line[length - 1] == ' '))
        length--;
    if (length < size) { /* what is too long stays empty and is refused as missing */
        memcpy(text, line, length);
        text[length] = '\0';
    }
}

static size_t on_header(char *line, size_t size, size_t count, void *context)
{
    struct head_answer *answer = context;
    size_t length = size * count;

    take_header(line, length, "ETag", answer->etag, sizeof(answer->etag));
    take_header(line, length, "X-Linked-Etag", answer->linked_etag, sizeof(answer->linked_etag));
    take_header(line, length, "X-Repo-Commit", answer->commit, sizeof(answer->commit));
    take_header(line, length, "Location", answer->location, sizeof(answer->location));
    take_header(line, length, "Content-Length", answer->length, sizeof(answer->length));
    take_header(line, length, "X-Linked-Size", answer->linked_length, sizeof(answer->linked_length));
    take_header(line, length, "X-Error-Code", answer->error, sizeof(answer->error));
    return length;
}

/* W/"abc" and "abc" to abc; false where no file may be called so. */
static bool plain_etag(const char *etag, char checksum[HUB_MOST_CHECKSUM_BYTES + 1])
{
    if (strncmp(etag, "W/", 2) == 0)
        etag += 2;
    if (*etag == '"')
        etag++;
    size_t length = strcspn(etag, "\"");
    if (length > HUB_MOST_CHECKSUM_BYTES)
        return false;
    memcpy(checksum, etag, length);
    checksum[length] = '\0';
    return hub_name_is_safe(checksum);
}

static int64_t plain_size(const char *text)
{
    char *end;
    long long size = strtoll(text, &end, 10);
    return end != text && *end == '\0' && size >= 0 ? size : -1;
}

static dla_status read_answer(const struct request *request, const struct hub_repository *repository, const char *file, long code,
                              const struct head_answer *answer, struct hub_remote_file *remote)
{
    if (code == 404 && strcmp(answer->error, "RevisionNotFound") == 0)
        return status_set(DLA_ERROR_IO, "%s has no revision '%s' on the hub", repository->name, repository->revision);
    if (code == 404 && strcmp(answer->error, "RepoNotFound") == 0)
        return status_set(DLA_ERROR_IO, "the hub has no repository %s", repository->name);
    if (code == 404)
        return status_set(DLA_ERROR_NOT_FOUND, "%s has no file %s on the hub", repository->name, file);
    if (code >= 400)
        return refused(request, repository, code);
    bool linked = answer->linked_etag[0] != '\0';
    if (!hub_name_is_safe(answer->commit) || !plain_etag(linked ? answer->linked_etag : answer->etag, remote->checksum))
        return status_set(DLA_ERROR_FORMAT, "%s: the answer is not the hub's (no X-Repo-Commit and ETag)", request->url);
    strcpy(remote->commit, answer->commit);
    remote->size = plain_size(linked ? answer->linked_length : code == 200 ? answer->length : "");
    return DLA_OK;
}

dla_status hub_transfer_head(const struct hub_repository *repository, const char *revision, const char *file,
                             struct hub_remote_file *remote)
{
    struct request request;
    struct head_answer answer;
    CURLcode code;
    long http = 0;
    int redirects = 0, attempt = 0;
    char *base;
    dla_status status = request_make(repository, revision, file, &request);

    if (status != DLA_OK || (status = endpoint(&request.arena, &base)) != DLA_OK)
        goto out;
    curl_easy_setopt(request.curl, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(request.curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(request.curl, CURLOPT_HEADERDATA, &answer);
    for (;;) {
        answer = (struct head_answer){0};
        http = 0;
        code = curl_easy_perform(request.curl);
        curl_easy_getinfo(request.curl, CURLINFO_RESPONSE_CODE, &http);
        if (is_temporary(code, http) && ++attempt < MOST_ATTEMPTS) {
            wait_before_attempt(attempt);
        } else if (code == CURLE_OK && http >= 300 && http < 400 && answer.location[0] == '/' && redirects++ < MOST_REDIRECTS) {
            /* Renamed repositories redirect within the hub; what leaves it leads to the bytes and is not followed here. */
            const char *url = arena_format(&request.arena, "%s%s", base, answer.location);
            if (url == NULL || curl_easy_setopt(request.curl, CURLOPT_URL, url) != CURLE_OK) {
                status = status_out_of_memory(sizeof(answer.location), "a URL");
                goto out;
            }
        } else {
            break;
        }
    }
    status = code == CURLE_OK ? read_answer(&request, repository, file, http, &answer, remote) : transfer_failed(&request, code);
out:
    request_free(&request);
    return status;
}

/* ---- GET --------------------------------------------------------------------------------------------------------------- */

struct download {
    int descriptor;
    const char *file;
    int64_t written, size; /* size -1: not known */
    int error;             /* errno of a failed write, or 0 */
    bool too_long, interrupted;
    const dla_pull_options *options;
};

static size_t on_bytes(char *bytes, size_t size, size_t count, void *context)
{
    struct download *download = context;
    size_t length = size * count, done = 0;

    if (download->size >= 0 && (int64_t)length > download->size - download->written) {
        download->too_long = true;
        return 0;
    }
    while (done < length) {
        ssize_t written = write(download->descriptor, bytes + done, length - done);
        if (written < 0) {
            download->error = errno;
            return 0;
        }
        done += (size_t)written;
        download->written += written;
    }
    return length;
}

static int on_progress(void *context, curl_off_t total, curl_off_t now, curl_off_t upload_total, curl_off_t upload_now)
{
    struct download *download = context;
    const dla_pull_options *options = download->options;

    (void)total;
    (void)now;
    (void)upload_total;
    (void)upload_now;
    if (options->progress != NULL && !options->progress(options->context, download->file, download->written, download->size))
        download->interrupted = true;
    return download->interrupted ? 1 : 0;
}

static bool start_anew(struct download *download)
{
    download->written = 0;
    return ftruncate(download->descriptor, 0) == 0 && lseek(download->descriptor, 0, SEEK_SET) == 0;
}

/* One attempt; *again says that another could succeed. */
static dla_status get_once(struct request *request, const struct hub_repository *repository, struct download *download, bool *again)
{
    long http = 0;

    *again = false;
    if (lseek(download->descriptor, download->written, SEEK_SET) < 0)
        return status_from_errno(download->file, "write the download of");
    curl_easy_setopt(request->curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)download->written);
    request->error[0] = '\0';
    CURLcode code = curl_easy_perform(request->curl);
    curl_easy_getinfo(request->curl, CURLINFO_RESPONSE_CODE, &http);
    if (download->interrupted)
        return status_set(DLA_ERROR_INTERRUPTED, "%s: stopped after %lld bytes; the next pull goes on from there", request->url,
                          (long long)download->written);
    if (download->error != 0) {
        errno = download->error;
        return status_from_errno(download->file, "write the download of");
    }
    if (download->too_long)
        return status_set(DLA_ERROR_FORMAT, "%s: more than the announced %lld bytes arrive", request->url, (long long)download->size);
    if (code == CURLE_OK && (download->size < 0 || download->written == download->size))
        return DLA_OK;
    /* A server that knows no ranges, or whose file became shorter: from the beginning. */
    if (download->written > 0 && (code == CURLE_RANGE_ERROR || http == 416)) {
        *again = start_anew(download);
        return *again ? DLA_ERROR_IO : status_from_errno(download->file, "write the download of");
    }
    *again = code == CURLE_OK || is_temporary(code, http);
    if (code == CURLE_HTTP_RETURNED_ERROR)
        return refused(request, repository, http);
    if (code == CURLE_OK)
        return status_set(DLA_ERROR_IO, "%s: the transfer ended after %lld of %lld bytes", request->url, (long long)download->written,
                          (long long)download->size);
    return transfer_failed(request, code);
}

dla_status hub_transfer_get(const struct hub_repository *repository, const char *revision, const char *file,
                            const struct hub_remote_file *remote, int descriptor, const dla_pull_options *options)
{
    struct download download = {.descriptor = descriptor, .file = file, .size = remote->size, .options = options};
    struct request request;
    bool again = true;
    dla_status status = request_make(repository, revision, file, &request);

    if (status != DLA_OK)
        goto out;
    download.written = lseek(descriptor, 0, SEEK_END);
    if (download.written < 0 || (remote->size >= 0 && download.written > remote->size && !start_anew(&download))) {
        status = status_from_errno(file, "write the download of");
        goto out;
    }
    if (download.written == remote->size)
        goto out;
    curl_easy_setopt(request.curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(request.curl, CURLOPT_MAXREDIRS, (long)MOST_REDIRECTS);
    curl_easy_setopt(request.curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(request.curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(request.curl, CURLOPT_WRITEDATA, &download);
    curl_easy_setopt(request.curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(request.curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(request.curl, CURLOPT_XFERINFODATA, &download);
    for (int attempt = 1;; attempt++) {
        int64_t before = download.written;
        status = get_once(&request, repository, &download, &again);
        if (status == DLA_OK || !again)
            break;
        if (download.written > before)
            attempt = 1; /* it goes on, if slowly */
        if (attempt == MOST_ATTEMPTS)
            break;
        wait_before_attempt(attempt);
    }
out:
    request_free(&request);
    return status;
}

/* ---- checksums --------------------------------------------------------------------------------------------------------- */

dla_status hub_verify(const char *path, const char *checksum)
{
    size_t length = strlen(checksum);
    bool is_sha256 = length == 64;
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_bytes = 0;
    char text[2 * EVP_MAX_MD_SIZE + 1] = "", head[64];
    struct mapped_file file;
    dla_status status;

    if ((length != 64 && length != 40) || strspn(checksum, "0123456789abcdef") != length)
        return DLA_OK; /* an etag of another kind says nothing about the content */
    if ((status = file_map(path, &file)) != DLA_OK)
        return status;
    /* Git's checksum of a file is the SHA-1 of "blob SIZE", a NUL, and the content. */
    int head_bytes = is_sha256 ? 0 : snprintf(head, sizeof(head), "blob %zu", file.size) + 1;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == NULL || EVP_DigestInit_ex(context, is_sha256 ? EVP_sha256() : EVP_sha1(), NULL) != 1
        || EVP_DigestUpdate(context, head, (size_t)head_bytes) != 1 || EVP_DigestUpdate(context, file.bytes, file.size) != 1
        || EVP_DigestFinal_ex(context, digest, &digest_bytes) != 1)
        status = status_set(DLA_ERROR_UNSUPPORTED, "%s: libcrypto cannot compute its checksum", path);
    EVP_MD_CTX_free(context);
    file_unmap(&file);
    for (unsigned i = 0; i < digest_bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    if (status == DLA_OK && strcmp(text, checksum) != 0)
        return status_set(DLA_ERROR_FORMAT, "%s: checksum %s, but the hub says %s", path, text, checksum);
    return status;
}

#else

static dla_status not_built_in(void)
{
    return status_set(DLA_ERROR_UNSUPPORTED,
                      "this build has no downloads (DLA_HUB is off); put the files into a folder and use local-dir:FOLDER");
}

dla_status hub_transfer_head(const struct hub_repository *repository, const char *revision, const char *file,
                             struct hub_remote_file *remote)
{
    (void)repository;
    (void)revision;
    (void)file;
    (void)remote;
    return not_built_in();
}

dla_status hub_transfer_get(const struct hub_repository *repository, const char *revision, const char *file,
                            const struct hub_remote_file *remote, int descriptor, const dla_pull_options *options)
{
    (void)repository;
    (void)revision;
    (void)file;
    (void)remote;
    (void)descriptor;
    (void)options;
    return not_built_in();
}

dla_status hub_verify(const char *path, const char *checksum)
{
    (void)path;
    (void)checksum;
    return not_built_in();
}

#endif
