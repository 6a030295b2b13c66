/* device.h - whether a network can run where, and as, it is asked to. */
#ifndef DLA_TASKS_DEVICE_H
#define DLA_TASKS_DEVICE_H

#include <dla/dla.h>

/* DLA_ERROR_UNSUPPORTED where this machine or this library lacks the device, or the device the precision. */
dla_status device_check(dla_device device, dla_precision precision);

#endif
