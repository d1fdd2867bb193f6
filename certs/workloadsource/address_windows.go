package workloadsource

const addressForm = `npipe:name\of\the\pipe`
