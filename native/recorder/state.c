/* what the whole plugin knows: its options, this process, and the streams of its threads */
#include "recorder.h"

struct options options = {.parent = -1, .key = -1};
int interface_version;
bool mode64;
int process = -1;
_Atomic uint32_t process_epoch;
atomic_bool started;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
struct stream *streams[VCPU_ROOM];
_Atomic unsigned vcpu_top;
_Thread_local int this_vcpu __attribute__((tls_model("initial-exec"))) = -1;
