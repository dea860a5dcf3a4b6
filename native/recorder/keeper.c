/* in a sandbox the work folder is out of reach: its files come through a socket, from barnum.recording.keeper.
   The program can reach the socket as well, but has no key */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "recorder.h"

enum { KEY_SIZE = 32, NAME_SIZE = 16, PATIENCE = 60 /* seconds */ };

struct request {
    uint8_t key[KEY_SIZE];
    uint32_t what, unused;
    uint64_t size;
    char name[NAME_SIZE];
};
_Static_assert(sizeof(struct request) == 64, "layout");

struct answer {
    int32_t error, number;
};

static uint8_t key[KEY_SIZE];

/* take the key from a pipe, and close it before the program runs */
bool keeper_take_key(int fd)
{
    bool good = read(fd, key, sizeof key) == (ssize_t)sizeof key;
    close(fd);
    return good;
}

/* a pipe with the key for a program that this process becomes; -1 when that fails */
int keeper_hand_on(void)
{
    int ends[2];
    if (pipe(ends) != 0)
        return -1;
    bool good = write(ends[1], key, sizeof key) == (ssize_t)sizeof key;
    close(ends[1]);
    if (good)
        return ends[0];
    close(ends[0]);
    return -1;
}

static int receive(int connection, int *number)
{
    struct answer answer = {EPROTO, -1};
    struct iovec part = {&answer, sizeof answer};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got;
    do
        got = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof answer || answer.error) {
        errno = got == (ssize_t)sizeof answer ? answer.error : EPROTO;
        return -1;
    }
    if (number)
        *number = answer.number;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS ||
        head->cmsg_len != CMSG_LEN(sizeof(int)))
        return KEEPER_DONE;
    int fd;
    memcpy(&fd, CMSG_DATA(head), sizeof fd);
    return fd;
}

/* a descriptor of the work folder's file, KEEPER_DONE where none is needed, -1 and errno */
int keeper_ask(uint32_t what, const char *name, uint64_t size, int *number)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct request request = {.what = what, .size = size};
    memcpy(request.key, key, sizeof key);
    if ((size_t)snprintf(request.name, sizeof request.name, "%s", name) >= sizeof request.name ||
        (size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s", options.keeper) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connection < 0)
        return -1;
    /* one that does not answer must not stop the program for ever */
    struct timeval patience = {PATIENCE, 0};
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int fd = -1;
    if (connect(connection, (struct sockaddr *)&address, sizeof address) == 0 &&
        send(connection, &request, sizeof request, MSG_NOSIGNAL) == (ssize_t)sizeof request)
        fd = receive(connection, number);
    int error = errno;
    close(connection);
    errno = error;
    return fd;
}
