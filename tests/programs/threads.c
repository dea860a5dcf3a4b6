/* thirteen threads that hand work to each other */
#include <pthread.h>
#include <stdio.h>

enum { THREADS = 12, ROUNDS = 60 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;
static volatile long total;

static void *worker(void *argument)
{
    long me = (long)argument;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        while (turn % THREADS != me)
            pthread_cond_wait(&changed, &lock);
        turn++;
        total += me;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
        for (int n = 0; n < 100; n++)
            __atomic_fetch_add(&total, n & 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

int main(void)
{
    pthread_t all[THREADS];
    for (int round = 0; round < 2; round++) {
        for (long i = 0; i < THREADS; i++)
            if (pthread_create(&all[i], NULL, worker, (void *)i) != 0)
                return 1;
        for (int i = 0; i < THREADS; i++)
            pthread_join(all[i], NULL);
    }
    printf("%ld\n", total);
    return 0;
}
