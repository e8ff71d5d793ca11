"""The web page: takes images, shows their cells and counts, and saves corrections. Streamlit runs `app`."""
