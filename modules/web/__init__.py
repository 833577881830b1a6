"""What the page's server and the API's server have in common: who may come in, and on which port."""
